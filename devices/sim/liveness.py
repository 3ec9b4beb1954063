"""Which operations a compiler runs as one, and how much memory a step's tensors take at the same time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Sequence, Set, Tuple

from siderostat.devices.sim.opgraph import Op, OpGraph, TensorSpec

MAPPED_ALONE_BYTES = 32 << 20
LEAST_KEPT_BYTES = 256 << 10
"""Of glibc on 64 bits: from what size on memory is always mapped anew, and what of freed memory is kept at least."""


@dataclass(frozen=True)
class Group:
    """Operations that run as one: a chain of element-wise ones, or any other alone.

    Attributes:
        ops: in order.
        inputs: what is read from memory: what the group does not make itself.
        outputs: what is written to memory: what others read, or what outlives the step. The rest is never there.
    """

    ops: Tuple[Op, ...]
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]

    @property
    def kind(self) -> str:
        """Kind of the operations; ``elementwise`` for a chain."""
        return "elementwise" if is_elementwise(self.ops[0]) else self.ops[0].kind

    @property
    def stage(self) -> str:
        """Which pass the group ends in."""
        return self.ops[-1].stage

    @property
    def phase(self) -> int:
        """Which of the step's phases."""
        return self.ops[-1].phase

    @property
    def flops(self) -> float:
        """Floating-point operations."""
        return sum(op.flops for op in self.ops)

    @property
    def bytes_read(self) -> int:
        """Bytes of all inputs."""
        return sum(t.nbytes for t in self.inputs)

    @property
    def bytes_written(self) -> int:
        """Bytes of all outputs."""
        return sum(t.nbytes for t in self.outputs)


def is_elementwise(op: Op) -> bool:
    """Say whether each element of the output depends on the same element of the inputs alone."""
    return op.kind == "elementwise" or (op.kind == "norm" and op.attributes.get("statistics") == "given")


def fuse(graph: OpGraph) -> List[Group]:
    """Return the operations as a compiler would run them that joins chains of element-wise ones.

    An element-wise operation joins those that make its inputs, if these are element-wise, of as many elements and of
    the same pass, and nothing in between needs what they make. A chain runs in the place of its last member.
    """
    chains = _Chains()
    for number, op in enumerate(graph.ops):
        chains.add(number, op)
    return _groups(chains.in_order(), graph)


def alone(graph: OpGraph) -> List[Group]:
    """Return each operation on its own, as an eager framework runs them."""
    return [Group((op,), op.inputs, op.outputs) for op in graph.ops]


def live_bytes(graph: OpGraph, fused: bool = True) -> int:
    """Return the most bytes that tensors of a step take at one time; parameters and optimiser state aside.

    A tensor lives from the operation that makes it to the last that reads it, inputs of a step from the start of their
    phase, what a phase returns to its end.

    Args:
        graph: a step.
        fused: as a compiler plans it: what a chain of element-wise operations makes for itself is never there, and a
            chain writes over what it reads last. Otherwise as an eager framework runs it: each operation on its own,
            its inputs and outputs there at the same time.
    """
    groups = fuse(graph) if fused else alone(graph)
    born: List[int] = [0] * (len(groups) + 1)
    dies: List[int] = [0] * (len(groups) + 1)
    for storage, (first, last) in _lives(groups, graph).items():
        born[first] += graph.storages[storage]
        dies[last] += graph.storages[storage]
    now = peak = 0
    for number, group in enumerate(groups):
        reused = min(dies[number], born[number]) if fused and group.kind == "elementwise" else 0
        now += born[number]
        peak = max(peak, now - reused)
        now -= dies[number]
    return peak


def new_page_bytes(graph: OpGraph) -> int:
    """Return the bytes of pages that a process on a CPU gets anew from the system in each step, run eagerly with glibc.

    What is larger than 32 MiB is mapped on its own, and given back when it is freed. The rest lies in a heap, of whose
    end is given back what exceeds twice the largest tensor (mallopt(3): M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, which
    adapt themselves). What is free is taken to lie at the end.
    """
    groups = alone(graph)
    born, dies = [0] * (len(groups) + 1), [0] * (len(groups) + 1)
    largest = mapped = 0
    for storage, (first, last) in _lives(groups, graph).items():
        size = graph.storages[storage]
        if size >= MAPPED_ALONE_BYTES:
            mapped += size
            continue
        largest = max(largest, size)
        born[first] += size
        dies[last] += size
    kept = max(LEAST_KEPT_BYTES, 2 * largest)
    now = held = new = 0
    for _ in range(2):  # the second step begins with the heap that the first one leaves
        new = 0
        for comes, goes in zip(born, dies):
            now += comes
            new += max(0, now - held)
            held = max(held, now)
            now -= goes
            if held - now > kept:
                held = now
    return mapped + new


class _Chain:
    """Operations with their places in the step."""

    def __init__(self) -> None:
        self.members: Dict[int, Op] = {}
        self.reads: Set[int] = set()
        self.writes: Set[int] = set()

    def fits(self, op: Op) -> bool:
        """Say whether an operation is of the same pass and has as many elements."""
        last = self.members[max(self.members)]
        return (last.stage, last.phase, _elements(last)) == (op.stage, op.phase, _elements(op))

    def take(self, members: Dict[int, Op]) -> None:
        """Take operations up."""
        self.members.update(members)
        for op in members.values():
            self.reads.update(t.id for t in op.inputs)
            self.writes.update(t.id for t in op.outputs)


class _Chains:
    """All chains of a step; those that may still grow are found by the storages that they touch."""

    def __init__(self) -> None:
        self._all: Dict[_Chain, None] = {}
        self._makers: Dict[int, _Chain] = {}
        self._readers: Dict[int, Set[_Chain]] = {}

    def add(self, number: int, op: Op) -> None:
        """Add the next operation to the chains that it continues, which become one, or as a new one."""
        chain = _Chain()
        if is_elementwise(op):
            for maker in self._made(t.id for t in op.inputs):
                if maker.fits(op):
                    self._close(maker)
                    del self._all[maker]
                    chain.take(maker.members)
        # What makes the other inputs may run no later than this, nor may what touches what this writes.
        for maker in self._made(t.id for t in op.inputs):
            self._close(maker)
        for storage in {t.id for t in op.outputs}:
            for other in {*self._made([storage]), *self._readers.get(storage, ())}:
                self._close(other)
        chain.take({number: op})
        self._all[chain] = None
        if is_elementwise(op):
            self._open(chain)

    def in_order(self) -> List[List[Op]]:
        """Return the chains in the order of their last members."""
        ordered = sorted(self._all, key=lambda chain: max(chain.members))
        return [[chain.members[number] for number in sorted(chain.members)] for chain in ordered]

    def _made(self, storages: Iterable[int]) -> List[_Chain]:
        """Return the open chains that make storages, each once."""
        return list(dict.fromkeys(self._makers[s] for s in storages if s in self._makers))

    def _open(self, chain: _Chain) -> None:
        self._makers.update(dict.fromkeys(chain.writes, chain))
        for storage in chain.reads:
            self._readers.setdefault(storage, set()).add(chain)

    def _close(self, chain: _Chain) -> None:
        for storage in chain.writes:
            if self._makers.get(storage) is chain:
                del self._makers[storage]
        for storage in chain.reads:
            self._readers.get(storage, set()).discard(chain)


def _elements(op: Op) -> int:
    return max((t.numel for t in op.outputs), default=0)


def _groups(chains: Sequence[Sequence[Op]], graph: OpGraph) -> List[Group]:
    """Find out what each chain reads and writes outside itself, from the last to the first."""
    needed: Set[int] = set(graph.resident | graph.returned)
    groups: List[Group] = []
    for chain in reversed(chains):
        outputs = _distinct(t for op in chain for t in op.outputs if len(chain) == 1 or t.id in needed)
        made: Set[int] = set()
        inputs: List[TensorSpec] = []
        for op in chain:
            inputs += [t for t in op.inputs if t.id not in made]
            made.update(t.id for t in op.outputs)
        needed.update(t.id for t in inputs)
        groups.append(Group(tuple(chain), _distinct(inputs), outputs))
    return groups[::-1]


def _distinct(tensors: Iterable[TensorSpec]) -> Tuple[TensorSpec, ...]:
    return tuple(dict.fromkeys(tensors))


def _lives(groups: Sequence[Group], graph: OpGraph) -> Dict[int, Tuple[int, int]]:
    """Return for each storage that does not outlive the step the first and the last group in which it is there."""
    starts: Dict[int, int] = {}
    ends: Dict[int, int] = {}
    for number, group in enumerate(groups):
        starts.setdefault(group.phase, number)
        ends[group.phase] = number
    lives: Dict[int, Tuple[int, int]] = {}
    for number, group in enumerate(groups):
        for tensor in (*group.inputs, *group.outputs):
            is_input = tensor in group.inputs and tensor.id not in lives
            first = lives[tensor.id][0] if tensor.id in lives else starts[group.phase] if is_input else number
            lives[tensor.id] = (first, ends[group.phase] if tensor.id in graph.returned else number)
    return {storage: life for storage, life in lives.items() if storage not in graph.resident}
