"""Energy, power, clocks and processes of NVIDIA boards, through NVML (package nvidia-ml-py, module pynvml).

A board is found by its UUID or PCI address, never by index: NVML counts all boards, CUDA those that are visible to it.
"""

from __future__ import annotations

import re
import time
from typing import Any, Callable, Dict, List, Optional, TypeVar

from siderostat.devices.energy.counter import Counter, Refused
from siderostat.record import EnergyStatus

_T = TypeVar("_T")

_POWER_INSTANT = 186  # NVML_FI_DEV_POWER_INSTANT, drivers since 530
_AVERAGED_OVER_S = 1.0  # nvmlDeviceGetPowerUsage, on Ampere (but for GA100) and newer; NVML reference, "Device Queries"
_BARE_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DRIVER_REMEDY = (
    "install NVIDIA's driver; in a container, start it with the NVIDIA runtime and the driver capability 'utility'"
)
_REASONS = {  # nvmlClocksEventReasons, an idle board aside
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}


def nvml_counters(device: str) -> List[Counter]:
    """Return what tells the energy of a board, the better first: its counter of energy, then power, integrated.

    Args:
        device: UUID or PCI address of the board.
    """
    return [NvmlEnergy(device), NvmlPower(device)]


def find(device: str) -> Any:
    """Return NVML's handle of a board.

    Args:
        device: UUID, with or without ``GPU-`` in front, or PCI address such as ``00000000:65:00.0``.

    Raises:
        Refused: if NVML or the board is not there.
    """
    try:
        import pynvml
    except ImportError as error:
        reason = "the package nvidia-ml-py, which reads NVIDIA's sensors, is not installed"
        raise Refused(EnergyStatus.UNSUPPORTED, reason, "pip install nvidia-ml-py") from error
    try:
        pynvml.nvmlInit()
        if ":" in device:
            return pynvml.nvmlDeviceGetHandleByPciBusId(device)
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{device}" if _BARE_UUID.fullmatch(device) else device)
    except pynvml.NVMLError as error:
        raise _refused(error, f"NVML does not give the board {device}") from error


def is_mig(handle: Any) -> bool:
    """Say whether the handle is a part of a divided board (MIG), or the whole of one."""
    import pynvml

    part = _told(lambda: pynvml.nvmlDeviceIsMigDeviceHandle(handle))
    if getattr(part, "value", part):  # a ctypes integer in the releases seen so far
        return True
    modes = _told(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    return modes is not None and modes[0] == pynvml.NVML_DEVICE_MIG_ENABLE


def sensors(handle: Any) -> Dict[str, float]:
    """Return clocks, temperature and power of a board now; what it does not tell is left out."""
    import pynvml

    told = {
        "sm_clock_mhz": _told(lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
        "memory_clock_mhz": _told(lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM)),
        "temperature_c": _told(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        "power_w": _power_w(handle),
        "power_limit_w": _power_limit_w(handle),
    }
    return {name: float(value) for name, value in told.items() if value is not None}


def throttle_reasons(handle: Any) -> List[str]:
    """Return why the board's clock is below what it could be now; empty where nothing holds it, or it does not tell."""
    import pynvml

    bits = _told(lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    if bits is None:  # the name in drivers before 535
        bits = _told(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    return [name for bit, name in _REASONS.items() if (bits or 0) & bit]


def compute_pids(handle: Any) -> List[int]:
    """Return the processes that compute on a board now; empty where it does not tell.

    In a container, NVML may give the host's numbers, or leave out processes of other containers.
    """
    import pynvml

    processes = _told(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
    return [process.pid for process in processes or []]


def default_sm_clock_mhz(handle: Any) -> Optional[float]:
    """Return the clock that the board's maker sets for applications; None: it does not tell."""
    import pynvml

    clock = _told(lambda: pynvml.nvmlDeviceGetDefaultApplicationsClock(handle, pynvml.NVML_CLOCK_SM))
    return None if clock is None else float(clock)


class _Board(Counter):
    """What both ways to a board's energy share."""

    scope = "gpu_board"

    def __init__(self, device: str) -> None:
        self._device = device
        self._handle: Any = None

    def open(self) -> None:
        """See :meth:`Counter.open`."""
        self._handle = find(self._device)
        if is_mig(self._handle):
            raise Refused(
                EnergyStatus.UNSUPPORTED,
                "the board is divided (MIG): its sensors cover all parts together, and a part has none of its own",
                "measure energy with MIG switched off: nvidia-smi -mig 0",
            )

    def device(self) -> Dict[str, Any]:
        """See :meth:`Counter.device`."""
        import pynvml

        told = {
            "uuid": _told(lambda: pynvml.nvmlDeviceGetUUID(self._handle)),
            "pci": _told(lambda: pynvml.nvmlDeviceGetPciInfo(self._handle).busId),
            "name": _told(lambda: pynvml.nvmlDeviceGetName(self._handle)),
            "driver": _told(pynvml.nvmlSystemGetDriverVersion),
            "power_limit_w": _power_limit_w(self._handle),
        }
        texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in told.items()}
        return {name: value for name, value in texts.items() if value is not None}


class NvmlEnergy(_Board):
    """The board's own counter of energy: Volta and newer, in mJ, updated about every 100 ms.

    On A100 and H100 it samples a quarter of the time (Yang et al., arXiv 2312.02741): a load in step with its period is
    read wrong however long the window.
    """

    source = "nvml.total_energy"

    def open(self) -> None:
        """See :meth:`Counter.open`."""
        super().open()
        self.joules()
        self.watts_mean_over_s = 0.0 if _instant_w(self._handle) is not None else _AVERAGED_OVER_S

    def joules(self) -> float:
        """See :meth:`Counter.joules`."""
        import pynvml

        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) * 1e-3
        except pynvml.NVMLError as error:
            raise _refused(error, "the board's counter of energy cannot be read") from error

    def watts(self) -> Optional[float]:
        """See :meth:`Counter.watts`."""
        return _power_w(self._handle)


class NvmlPower(_Board):
    """The board's power, integrated by the trapezoidal rule over successive readings."""

    source = "nvml.power"

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self._updates = 0
        self._joules = 0.0
        self._last_w: Optional[float] = None
        self._last_s = 0.0

    def open(self) -> None:
        """See :meth:`Counter.open`."""
        super().open()
        self.joules()

    def joules(self) -> float:
        """See :meth:`Counter.joules`."""
        now_w = _power_w(self._handle)
        now_s = time.perf_counter()
        if now_w is None:
            raise Refused(EnergyStatus.UNSUPPORTED, "the board tells neither its energy nor its power")
        if self._last_w is not None:
            self._joules += 0.5 * (self._last_w + now_w) * (now_s - self._last_s)
            self._updates += now_w != self._last_w
        self._last_w, self._last_s = now_w, now_s
        return self._joules

    @property
    def updates(self) -> Optional[int]:
        """See :meth:`Counter.updates`: readings that differ from the one before."""
        return self._updates

    def watts(self) -> Optional[float]:
        """See :meth:`Counter.watts`."""
        return self._last_w


def _power_w(handle: Any) -> Optional[float]:
    """Return the power of the moment or, where a board does not tell it, the driver's mean; None: neither."""
    import pynvml

    instant_w = _instant_w(handle)
    if instant_w is not None:
        return instant_w
    milliwatts = _told(lambda: pynvml.nvmlDeviceGetPowerUsage(handle))
    return None if milliwatts is None else milliwatts * 1e-3


def _instant_w(handle: Any) -> Optional[float]:
    import pynvml

    fields = _told(lambda: pynvml.nvmlDeviceGetFieldValues(handle, [_POWER_INSTANT]))
    if not fields or fields[0].nvmlReturn != pynvml.NVML_SUCCESS:
        return None
    return float(fields[0].value.uiVal) * 1e-3


def _power_limit_w(handle: Any) -> Optional[float]:
    import pynvml

    milliwatts = _told(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    return None if milliwatts is None else milliwatts * 1e-3


def _told(ask: Callable[[], _T]) -> Optional[_T]:
    """Return the answer, or None where this board or driver has none."""
    import pynvml

    try:
        return ask()
    except pynvml.NVMLError:
        return None


def _refused(error: Any, what: str) -> Refused:
    """Translate an error of NVML; its codes are those of nvmlReturn_t."""
    import pynvml

    reason = f"{what}: {error}"
    if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
        return Refused(EnergyStatus.NO_PERMISSION, reason, "an administrator must let this user read NVML's sensors")
    if error.value in (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED):
        return Refused(EnergyStatus.UNSUPPORTED, reason, _DRIVER_REMEDY)
    if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return Refused(EnergyStatus.UNSUPPORTED, reason, "restart the machine: the driver was updated while it ran")
    return Refused(EnergyStatus.UNSUPPORTED, reason)
