"""A stand-in for Graphcore's gcipuinfo, for tests only: IPUs, and what each tells, come from :data:`devices`."""

from __future__ import annotations

IpuPower = "ipu power"

devices: list = []  # one dict of texts for each IPU; tests fill it


class gcipuinfo:  # noqa: N801
    def setUpdateMode(self, update):  # noqa: N802
        assert update is True

    def getDevices(self):  # noqa: N802
        return [dict(device) for device in devices]

    def getNamedAttributeForAll(self, name):  # noqa: N802
        return [device.get(name, "N/A") for device in devices]
