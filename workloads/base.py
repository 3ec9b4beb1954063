"""The interface every workload implements. A workload knows no device, reads no clock and owns no plan."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Callable, ClassVar, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

COMPLEX = "complex numbers"
DECOMPOSITIONS = "matrix decompositions"
FOURIER = "Fourier transforms"
DYNAMIC_SHAPES = "dynamic shapes"
SHARED_WEIGHTS = "weights shared between phases"
LOOSE_TENSORS = "tensors that are neither parameters nor buffers"
UPDATE_HOOKS = "gradients changed between the backward pass and the update"
HOST_KERNELS = "a kernel for the host's processor, or Triton for the same on a GPU"

FEATURES = (
    COMPLEX, DECOMPOSITIONS, FOURIER, DYNAMIC_SHAPES, SHARED_WEIGHTS, LOOSE_TENSORS, UPDATE_HOOKS, HOST_KERNELS,
)  # fmt: skip
"""What a step can need that some device or compiler lacks: the singular value, eigenvalue, Cholesky and QR
decompositions and solving are one of them; so is a shape that depends on values."""


class WrongResult(Exception):
    """The step ran, but its outputs cannot be right."""


class BadInput(Exception):
    """What the workload was given to work on cannot be used. The text says what, where and what to do."""


@dataclass(frozen=True)
class Size:
    """Parameters of a network, all of them and those that training changes; of its named parts, all of them."""

    parameters: int
    trainable: int
    parts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Option:
    """A setting of one workload, given by ``--set NAME=VALUE``. Its type is that of the default."""

    default: Any
    help: str
    is_path: bool = False  # made absolute, so that a run can be resumed from any folder


@dataclass(frozen=True)
class Spec:
    """What a workload needs to know to build a step."""

    variant: str
    mode: str
    framework: str
    batch: int
    size: str
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)


class Feed:
    """Endless batches from arrays in host memory, in one shuffled order, the same in each time round.

    Args:
        arrays: arrays of equal length, batch dimension first.
        batch: items per batch; what does not fill a batch at the end of a round is left out. Where it is larger than
            the number of items, items repeat within it: how long a step takes and what it needs depends on neither.
        seed: of the order.
    """

    def __init__(self, arrays: Sequence[np.ndarray], batch: int, seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(arrays[0]))
        if len(order) < batch:
            order = np.resize(order, batch)
        self._arrays = [np.ascontiguousarray(a[order]) for a in arrays]
        self._batch = batch
        self._last = len(order) - batch
        self._at = 0

    @property
    def arrays(self) -> Sequence[np.ndarray]:
        """All items, in the order of the batches."""
        return self._arrays

    def place(self) -> slice:
        """Return where in :attr:`arrays` the next batch lies, and go on: for what holds the arrays elsewhere too."""
        start = self._at if self._at <= self._last else 0
        self._at = start + self._batch
        return slice(start, self._at)

    def in_double(self) -> Feed:
        """Return a feed of the same batches with what is of floating point as float64."""
        double = copy.copy(self)
        double._arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in self._arrays]
        return double

    def next(self) -> Tuple[np.ndarray, ...]:
        """Return the next batch as views into host memory: nothing is copied."""
        place = self.place()
        return tuple(a[place] for a in self._arrays)


@dataclass(frozen=True)
class Phase:
    """One forward pass and, where ``optimizer`` is set, one update.

    ``model`` is what the framework calls a model (``torch.nn.Module``, ``tf.Module``, for numpy any
    callable). It is called with one batch of ``feed``. With an optimizer its last output is the scalar
    loss: compilers such as PopTorch build the backward pass from it.
    """

    model: Any
    feed: Feed
    optimizer: Optional[Callable[[Any], Any]] = None  # parameters -> the framework's optimizer


@dataclass(frozen=True)
class Step:
    """The unit that is timed: its phases in order, on one batch each."""

    framework: str
    phases: Sequence[Phase]
    items: int  # how many of Workload.item one step handles


@dataclass(frozen=True)
class Goal:
    """What a step is to learn, and in how many items.

    A step that learns nothing, such as sampling, has a budget of 0: it is judged as it is.
    """

    figure: str  # of Findings.figures, the one that decides; less is better
    target: float  # reached when the figure is no larger
    budget: int  # items trained on before the figures of a fixed budget are taken, and at most for the target
    every: int  # items trained on between two looks at the figure
    batch: int
    options: Mapping[str, Any] = field(default_factory=dict)  # in place of the defaults, such as more images


@dataclass(frozen=True)
class Findings:
    """How good a model is.

    Attributes:
        figures: by name; errors and distances in the unit of what they are of.
        pairs: by name, true values and what the model says of them, of equal length.
        pictures: by name, uint8 of shape (pictures, rows, columns, 3).
    """

    figures: Dict[str, float]
    pairs: Dict[str, Tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    pictures: Dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Exam:
    """How a model is judged on what it has not been trained on.

    ``model`` is put into inference and called with each of ``batches``; ``judge`` gets the outputs of all calls.
    """

    model: Any
    batches: Sequence[Tuple[np.ndarray, ...]]
    judge: Callable[[Sequence[Sequence[np.ndarray]]], Findings]


class Workload(ABC):
    """A scientific computation that devices are compared on.

    Class attributes describe it without importing a framework; ``siderostat list workloads`` prints them.
    """

    name: str  # by which it is asked for; of a user's file, its path and class
    title: ClassVar[str]
    item: ClassVar[str]  # the work unit, singular
    modes: ClassVar[Tuple[str, ...]]  # the default first, as in all tuples and mappings here
    frameworks: ClassVar[Tuple[str, ...]]
    precisions: ClassVar[Tuple[str, ...]] = ("fp32",)
    variants: ClassVar[Mapping[str, Mapping[str, Size]]]  # variant -> size -> parameters
    batches: ClassVar[Tuple[int, ...]]  # see also batches_of
    options: ClassVar[Mapping[str, Option]] = {}
    reference: ClassVar[str] = ""  # paper and equation, or data sheet

    def batches_of(self, variant: str, mode: str) -> Tuple[int, ...]:
        """Return the batch sizes that are measured where none are asked for."""
        return self.batches

    def goal(self, variant: str, mode: str) -> Optional[Goal]:
        """Return what the step is to learn; None where there is nothing to judge but :meth:`check`."""
        return None

    def exam(self, spec: Spec, step: Step) -> Exam:
        """Return how the model of ``step``, which :meth:`build` made, is judged. Only where there is a goal.

        Raises:
            BadInput: if the inputs cannot be used.
        """
        raise NotImplementedError(f"{self.name} states a goal and no exam")

    def parts(self, spec: Spec) -> int:
        """Return in how many independent parts the inputs are made; 0 where there is nothing to make."""
        return 0

    def make_part(self, spec: Spec, part: int) -> None:
        """Make one part of the inputs and cache it; return at once where it is there.

        Raises:
            BadInput: if a file that the user named cannot be used, or the cache cannot be written.
        """

    def needs(self, spec: Spec) -> Tuple[str, ...]:
        """Return what of :data:`FEATURES` the step needs: a device that lacks it refuses before anything is built."""
        return ()

    def flops_per_item(self, spec: Spec) -> Optional[float]:
        """Return floating-point operations per item in this mode, where they are known."""
        return None

    @abstractmethod
    def build(self, spec: Spec) -> Step:
        """Make data and model. Called once per process, before any clock runs.

        Raises:
            BadInput: if the inputs cannot be used.
        """

    @abstractmethod
    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return figures that show that the step computed the right thing.

        Args:
            spec: what the step was built from.
            outputs: what the last phase returned, as NumPy arrays.

        Raises:
            WrongResult: if the outputs cannot be right.
        """


def checked(outputs: Sequence[np.ndarray], shapes: Mapping[str, Tuple[int, ...]]) -> Sequence[np.ndarray]:
    """Return the outputs if they are as many as they should be, of the right shapes, and finite.

    Args:
        outputs: what a step returned.
        shapes: name -> shape of each, in order.

    Raises:
        WrongResult: if they are not; the text names the first that is wrong.
    """
    if len(outputs) != len(shapes):
        raise WrongResult(f"the step returned {len(outputs)} outputs instead of {len(shapes)}")
    for (name, shape), output in zip(shapes.items(), outputs):
        # Some frameworks hand a scalar back as an array of one element.
        if output.shape != shape and not (shape == () and output.size == 1):
            raise WrongResult(f"the {name} has shape {output.shape} instead of {shape}")
        if not np.isfinite(output).all():
            wrong = np.count_nonzero(~np.isfinite(output))
            raise WrongResult(f"{wrong} of {output.size} values of the {name} are not finite")
    return outputs
