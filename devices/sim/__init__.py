"""Chips that are not here: their time, memory and energy from a model, the step's numbers from a real run on the CPU.

``sim:graphcore-gc2``, ``sim:nvidia-a100:framework=cuda-graph,chips=2``, or ``sim:my-chip.toml`` for a part that one
thinks of buying. Whatever is said of such a device carries the provenance ``modelled`` and a band.
"""

from __future__ import annotations

import copy
import statistics
import time as clock
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Dict, List, Mapping, Optional

import numpy as np

from siderostat.devices.base import DeviceAdapter, DeviceRefusal, OutOfCapacity, Program, Unsupported, Window
from siderostat.devices.cpu import Cpu
from siderostat.devices.energy import Counter, Missing
from siderostat.devices.sim import calibration, chips, energy, frameworks, memory, time
from siderostat.devices.sim.bands import QUANTILES, Draws, band, total
from siderostat.devices.sim.memory import Need
from siderostat.devices.sim.opgraph import OpGraph
from siderostat.devices.sim.spec import Spec
from siderostat.devices.sim.trace import trace
from siderostat.record import EnergyStatus, Provenance
from siderostat.workloads.base import HOST_KERNELS, Feed, Phase, Step

DEFAULT_CHIP = "graphcore-gc2"
CHIP_COUNTS = ("1", "2", "4")
HOSTS = ("ideal", "published", "measured")
_TRIES = 9
_LACKS = ("linalg", "_linalg", "cholesky", "_fft", "fft", "triangular_solve", "svd")
"""Beginnings of the names of operations that Graphcore's frameworks refuse."""


@dataclass(frozen=True)
class Machine:
    """What is simulated.

    Attributes:
        chip: one of them.
        framework: that drives it.
        calibration: parameters of its model.
        chip_count: chips that hold the same weights and each do a part of the batch.
        host: ``ideal``: inputs are there when they are needed; ``published``: counted in by the framework's published
            rate; ``measured``: told apart, as measured here.
    """

    chip: Spec
    framework: Spec
    calibration: Spec
    chip_count: int
    host: str


class Sim(DeviceAdapter):
    """A chip from a specification; its index is the chip's name, or the path of its file."""

    kind = "sim"
    title = "a chip that is not here, modelled from its specification"
    clock = "model"
    provenance = Provenance.MODELLED
    is_exact = True
    settings_help: ClassVar[Mapping[str, str]] = {
        "framework": "software that drives the chip, or the path of its file; default: poptorch-loop or torch-eager",
        "chips": "1, 2 or 4 that hold the same weights and share the batch; default 1",
        "host": "ideal (inputs are there), published (by the framework's rate) or measured (told apart); default ideal",
        "calibration": "path of the file of the model's parameters; default: the one that comes along",
    }

    def __init__(self, index: str, settings: Mapping[str, str]) -> None:
        super().__init__(index, settings)
        chip = chips.load(index or DEFAULT_CHIP)
        framework = frameworks.fitting(settings.get("framework") or chips.DEFAULT_FRAMEWORK[chip.kind], chip)
        parameters = calibration.fitting(settings.get("calibration", ""), chip)
        self.machine = Machine(
            chip, framework, parameters, int(self.choice("chips", *CHIP_COUNTS)), self.choice("host", *HOSTS)
        )
        if self.machine.host == "published" and framework.get("input_bytes_per_s") is None:
            raise ValueError(
                f"host=published needs a framework that tells input_bytes_per_s; {framework.name} does not"
            )
        if self.machine.chip_count > 1 and chip.get("link_bytes_per_s") is None:
            raise ValueError(f"chips={self.machine.chip_count} needs link_bytes_per_s, which {chip.name} does not tell")
        self._cpu = Cpu("", {})

    def lacks(self, framework: str) -> Mapping[str, str]:
        """See :meth:`DeviceAdapter.lacks`. What is no operation of the framework's cannot be traced."""
        return {HOST_KERNELS: "use a variant that is written in PyTorch alone, such as real"}

    def describe(self) -> Dict[str, Any]:
        """See :meth:`DeviceAdapter.describe`."""
        return chips.about(self.machine.chip)

    def configure(self, framework: str) -> None:
        """See :meth:`DeviceAdapter.configure`."""
        self._cpu.configure(framework)

    def effective(self) -> Dict[str, Any]:
        """See :meth:`DeviceAdapter.effective`."""
        machine = self.machine
        return {
            "framework": machine.framework.name,
            "calibration": machine.calibration.name,
            "chips": machine.chip_count,
            "host": machine.host,
            "outputs": "one step on this machine's CPU in fp32",
        }

    def counters(self) -> List[Counter]:
        """See :meth:`DeviceAdapter.counters`."""
        reason = "a simulated device uses no energy; the record's model tells what its chip would use"
        return [Missing(reason, status=EnergyStatus.NOT_MEASURABLE)]

    def compile(self, step: Step, precision: str) -> Program:
        """See :meth:`DeviceAdapter.compile`."""
        machine = self.machine
        if chips.peak_flops(machine.chip, precision) is None:
            raise Unsupported(f"the file of {machine.chip.name} tells no peak in {precision}; use fp32")
        graph = trace(_share(step, machine.chip_count))
        _check_operations(graph, machine.chip)
        modelled = model(graph, machine, precision)
        host = _measured_host(step, machine) if machine.host == "measured" else None
        return _SimulatedProgram(self._cpu.compile(step, "fp32"), {**modelled, "host_clock": host})

    def refusal(self, error: BaseException) -> Optional[DeviceRefusal]:
        """See :meth:`DeviceAdapter.refusal`."""
        if self._cpu.refusal(error) is None:
            return None
        return Unsupported(
            "the step that yields the outputs did not fit into this machine's memory, which says nothing of the chip"
        )


class _SimulatedProgram(Program):
    """Time from the model, outputs from the first step, which the CPU runs and nobody times."""

    def __init__(self, real: Program, modelled: Dict[str, Any]) -> None:
        self._real = real
        self._modelled = modelled
        self._step_s: float = modelled["seconds_per_step"]["p50"]
        self._has_run = False

    def run(self, steps: int) -> Window:
        """See :meth:`Program.run`."""
        if steps and not self._has_run:
            self._real.run(1)
            self._has_run = True
        return Window(steps, steps * self._step_s, cpu_s=0.0)

    def outputs(self) -> List[np.ndarray]:
        """See :meth:`Program.outputs`."""
        return self._real.outputs()

    def peak_bytes(self) -> Optional[int]:
        """See :meth:`Program.peak_bytes`."""
        return int(self._modelled["memory"]["need_bytes"]["p50"])

    def modelled(self) -> Dict[str, Any]:
        """See :meth:`Program.modelled`."""
        return self._modelled

    def close(self) -> None:
        """See :meth:`Program.close`."""
        self._real.close()


def model(graph: OpGraph, machine: Machine, precision: str) -> Dict[str, Any]:
    """Return what a machine would take for a step, as the record has it.

    Args:
        graph: what one chip does in a step.
        machine: what does it.
        precision: of the computation.

    Raises:
        OutOfCapacity: if it is more likely than not that the step does not fit.
    """
    draws = Draws()
    need = memory.need(graph, machine.chip, machine.calibration, precision, draws)
    _check_memory(need, machine.chip)
    with_host = machine.host == "published"
    parts = time.parts(
        graph, machine.chip, machine.framework, machine.calibration, precision, draws, machine.chip_count, with_host
    )
    return {
        "chip": machine.chip.name,
        "framework": machine.framework.name,
        "calibration": machine.calibration.name,
        "hashes": {s.name: s.hash for s in (machine.chip, machine.framework, machine.calibration)},
        "unchecked": machine.chip.unchecked(),
        "chips": machine.chip_count,
        "host": machine.host,
        "precision": precision,
        "draws": draws.count,
        "quantiles": dict(QUANTILES),
        "seconds_per_step": band(total(parts)),
        "parts_s": {name: float(np.median(value)) for name, value in parts.items()},
        "memory": {
            "need_bytes": band(need.bytes),
            "capacity_bytes": need.capacity_bytes,
            "fit_probability": need.fit_probability,
            "parts_bytes": {name: float(np.median(value)) for name, value in need.parts.items()},
        },
        "joules_per_step": energy.joules(parts, machine.chip, draws, machine.chip_count),
        "flops": graph.flops * machine.chip_count,
    }


def _check_memory(need: Need, chip: Spec) -> None:
    median = float(np.median(need.bytes))
    if median <= need.capacity_bytes:
        return
    raise OutOfCapacity(
        f"{chip.title} has {need.capacity_bytes / 1e6:,.0f} MB and the step needs about {median / 1e6:,.0f} MB: "
        f"it does not fit with a probability of {100 * (1 - need.fit_probability):.0f} % (modelled)",
        need_bytes=int(median),
    )


def _check_operations(graph: OpGraph, chip: Spec) -> None:
    """Refuse what Graphcore's frameworks refuse.

    Raises:
        Unsupported: if the step computes with complex numbers, or decomposes matrices.
    """
    if chip.kind != "bsp-sram":
        return
    for op in graph.ops:
        if any(t.dtype.startswith("complex") for t in (*op.inputs, *op.outputs)):
            raise Unsupported(f"{chip.title} has no complex numbers; use a formulation in real ones")
        if op.name.startswith(_LACKS):
            raise Unsupported(f"{chip.title} has no operation {op.name}; use a formulation without it")


def _share(step: Step, chip_count: int) -> Step:
    """Return the part of a step that one of several chips does.

    Raises:
        Unsupported: if the batch cannot be shared out evenly.
    """
    if chip_count == 1:
        return step
    phases = [replace(phase, feed=_part(phase, chip_count)) for phase in step.phases]
    return replace(step, phases=phases, items=max(1, step.items // chip_count))


def _part(phase: Phase, chip_count: int) -> Feed:
    batch = copy.copy(phase.feed).next()
    size = len(batch[0])
    if size % chip_count:
        raise Unsupported(f"a batch of {size} cannot be shared out evenly over {chip_count} chips")
    return Feed([array[: size // chip_count] for array in batch], size // chip_count, seed=0)


def _measured_host(step: Step, machine: Machine) -> Dict[str, Any]:
    """Return how long this machine takes to hand one step's inputs over: gathered and copied here, then sent.

    On a clock of its own, never added to the model's.
    """
    feeds = [copy.copy(phase.feed) for phase in step.phases]
    tries: List[float] = []
    copies: List[np.ndarray] = []
    for _ in range(_TRIES):
        begin = clock.perf_counter()
        copies = [np.copy(array) for feed in feeds for array in feed.next()]
        tries.append(clock.perf_counter() - begin)
    sent = sum(array.nbytes for array in copies)
    return {
        "prepare_s": statistics.median(tries),
        "provenance": Provenance.MEASURED.value,
        "transfer_s": sent / machine.chip["host_bytes_per_s"],
        "transfer_provenance": Provenance.MODELLED.value,
        "bytes": sent,
    }
