"""What TensorFlow's operations are: their kind, their floating-point operations, and what a chip model needs besides.

They are counted as PyTorch's, see :mod:`siderostat.devices.sim.torch_ops`.
"""

from __future__ import annotations

import math
from typing import Any, Dict, FrozenSet, Sequence, Tuple

from siderostat.devices.sim.opgraph import TensorSpec
from siderostat.devices.sim.optimizers import KNOWN

Found = Tuple[str, float, Dict[str, Any]]
"""Kind, floating-point operations and attributes of one operation."""


def _names(text: str) -> FrozenSet[str]:
    return frozenset(text.split())


VIEWS = _names(
    "Identity IdentityN Reshape ExpandDims Squeeze StopGradient PreventGradient Snapshot EnsureShape Bitcast "
    "PlaceholderWithDefault"
)
"""Whose outputs are their inputs, in order."""

FROM_SHAPES = _names(
    "Shape ShapeN Size Rank BroadcastGradientArgs BroadcastArgs ConcatOffset ZerosLike OnesLike "
    "StatelessRandomGetKeyCounter StatelessRandomGetAlg NoOp Assert"
)
"""Known from shapes alone, or no part of the computation."""

MATMULS = _names("MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3")
COPIES = _names(
    "ConcatV2 Concat Pad PadV2 MirrorPad MirrorPadGrad Tile Transpose ConjugateTranspose Slice StridedSlice "
    "StridedSliceGrad Split SplitV Unpack Pack Cast Fill BroadcastTo ReverseV2 Roll MatrixDiag MatrixDiagV2 "
    "MatrixDiagV3 MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 "
    "MatrixBandPart Diag DiagPart DepthToSpace SpaceToDepth SpaceToBatchND BatchToSpaceND AssignVariableOp Range Empty"
)
GATHERS = _names(
    "Gather GatherV2 GatherNd ResourceGather ResourceGatherNd ScatterNd TensorScatterUpdate TensorScatterAdd OneHot "
    "UnsortedSegmentSum SegmentSum SegmentSumV2 DynamicStitch ResourceScatterAdd ResourceScatterUpdate"
)
_SCATTERED_SUMS = _names("ScatterNd TensorScatterAdd UnsortedSegmentSum SegmentSum SegmentSumV2 ResourceScatterAdd")
RANDOMS = _names(
    "RandomStandardNormal RandomUniform RandomUniformInt TruncatedNormal ParameterizedTruncatedNormal Multinomial "
    "RandomGamma RandomPoissonV2 RandomShuffle StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform "
    "StatelessRandomUniformV2 StatelessRandomUniformInt StatelessRandomUniformIntV2 StatelessRandomUniformFullIntV2 "
    "StatelessTruncatedNormal StatelessTruncatedNormalV2"
)
NORMS = {  # per input element
    "FusedBatchNorm": 8.0,
    "FusedBatchNormV2": 8.0,
    "FusedBatchNormV3": 8.0,
    "FusedBatchNormGrad": 10.0,
    "FusedBatchNormGradV2": 10.0,
    "FusedBatchNormGradV3": 10.0,
    "Softmax": 5.0,
    "LogSoftmax": 5.0,
    "SparseSoftmaxCrossEntropyWithLogits": 6.0,
    "SoftmaxCrossEntropyWithLogits": 6.0,
}
_GIVEN_STATISTICS = 4.0
POOLS = ("MaxPool", "AvgPool", "Resize")
REDUCTIONS = _names(
    "Sum Mean Max Min Prod All Any ArgMax ArgMin BiasAddGrad L2Loss Cumsum Cumprod CumulativeLogsumexp EuclideanNorm "
    "TopKV2"
)
_TRANSFORMS = {"FFT": 1, "FFT2D": 2, "FFT3D": 3, "IFFT": 1, "IFFT2D": 2, "IFFT3D": 3}
_REAL_TRANSFORMS = {"RFFT": 1, "RFFT2D": 2, "RFFT3D": 3, "IRFFT": 1, "IRFFT2D": 2, "IRFFT3D": 3}
_PER_MATRIX = {  # of n x n, in units of n^3; Golub and Van Loan (2013)
    "Cholesky": 1 / 3, "CholeskyGrad": 2.0, "MatrixDeterminant": 2 / 3, "LogMatrixDeterminant": 2 / 3, "Lu": 2 / 3,
    "MatrixInverse": 2.0, "MatrixExponential": 16.0, "SelfAdjointEigV2": 9.0, "Eig": 25.0, "Svd": 22.0, "Qr": 8 / 3,
}  # fmt: skip
DATA_DEPENDENT = _names(
    "Where Unique UniqueV2 UniqueWithCounts BooleanMask DynamicPartition NonMaxSuppressionV3 PyFunc"
)
"""The shape of what they return depends on values; Python code is not seen at all."""


def is_convolution(kind: str) -> bool:
    """Say whether an operation is a pass of a convolution."""
    return kind.startswith(("Conv2D", "Conv3D", "DepthwiseConv2dNative"))


def classify(op: Any, stage: str, ins: Sequence[TensorSpec], outs: Sequence[TensorSpec]) -> Found:
    """Say what an operation is.

    Args:
        op: TensorFlow's own object of it.
        stage: which pass it belongs to.
        ins: the tensors that it reads, those known from shapes left out.
        outs: what it writes.
    """
    kind = str(op.type)
    read, written = sum(t.numel for t in ins), sum(t.numel for t in outs)
    if kind.startswith("ResourceApply"):
        return _update(kind, ins)
    if kind in MATMULS:
        return _matmul(op)
    if kind in COPIES:
        return "copy", 0.0, {}
    if kind in GATHERS:
        return "gather", float(read if kind in _SCATTERED_SUMS else 0), {}
    if kind in RANDOMS:
        return "random", float(written), {}
    if kind in NORMS:
        return _norm(op, max(t.numel for t in ins))
    if kind.startswith(POOLS):
        return "pool", _pooled(op, read, written), {}
    if kind in REDUCTIONS:
        return "reduce", float(read), {}
    if kind in _TRANSFORMS or kind in _REAL_TRANSFORMS:
        longer = max((*ins, *outs), key=lambda t: t.numel)
        axes = _TRANSFORMS.get(kind) or _REAL_TRANSFORMS[kind]
        points = math.log2(max(2, math.prod(longer.shape[-axes:])))
        return "other", (5.0 if kind in _TRANSFORMS else 2.5) * longer.numel * points, {}
    if kind in _PER_MATRIX:
        shape = ins[0].shape
        return "other", math.prod(shape[:-2]) * _PER_MATRIX[kind] * min(shape[-2:]) ** 2 * max(shape[-2:]), {}
    if kind in ("MatrixTriangularSolve", "MatrixSolve"):
        n = ins[0].shape[-1]
        decomposition = 2 / 3 * n * ins[0].numel if kind == "MatrixSolve" else 0.0
        return "other", decomposition + (2.0 if decomposition else 1.0) * n * written, {}
    if kind == "AddN":
        return "elementwise", float(max(0, len(ins) - 1) * written), {}
    if not ins:
        return "copy", 0.0, {}
    is_reduced = max(t.numel for t in outs) < max(t.numel for t in ins)
    return ("reduce", float(read), {}) if is_reduced else ("elementwise", float(written), {})


def _update(kind: str, ins: Sequence[TensorSpec]) -> Found:
    """One operation that updates one variable: it reads the variable, its state and, last, the gradient."""
    name = kind[len("ResourceApply") :]
    state, operations = KNOWN.get(name, (max(0, len(ins) - 2), 2 * len(ins)))
    attributes = {"name": name, "state": state, "operations": operations}
    return "optimizer", float(operations * ins[0].numel), attributes


def _matmul(op: Any) -> Found:
    left, right = (tuple(t.shape) for t in op.inputs)
    flags = ("adj_x", "adj_y") if "Batch" in op.type else ("transpose_a", "transpose_b")
    turned = [bool(op.get_attr(flag)) for flag in flags]
    m, k = left[-2:][::-1] if turned[0] else left[-2:]
    n = right[-2] if turned[1] else right[-1]
    batch = math.prod(tuple(op.outputs[0].shape)[:-2])
    return "matmul", 2.0 * batch * m * k * n, {"batch": batch, "m": m, "k": k, "n": n}


def convolution(
    op: Any, stage: str, kernel: Sequence[int], image: Sequence[int], features: Sequence[int]
) -> Tuple[float, Dict[str, Any]]:
    """Return the operations of one pass of a convolution, and its attributes.

    What TensorFlow calls the gradient with respect to the input is a transposed convolution where it is in the forward
    pass, and the gradient of one is an ordinary convolution.

    Args:
        op: the operation.
        stage: which pass it belongs to.
        kernel: shape (..., in, out).
        image: shape of the larger side, what an ordinary convolution reads.
        features: shape of the side that the kernel is applied to at each position, what it writes.
    """
    first = 1 if op.get_attr("data_format")[-1:] in (b"C", "C") else 2
    spatial = slice(first, first + len(kernel) - 2)
    channel = len(image) - 1 if first == 1 else 1
    is_depthwise = "Depthwise" in op.type
    positions = math.prod(features[spatial])
    flops = 2.0 * features[0] * positions * math.prod(kernel)
    pass_, transposed = "fwd", False
    if "BackpropFilter" in op.type:
        pass_ = "wgrad"
    elif "BackpropInput" in op.type:
        pass_, transposed = ("fwd", True) if stage == "forward" else ("dgrad", False)
    elif stage == "backward":
        pass_, transposed = "dgrad", True
    sides = (features, image) if transposed else (image, features)
    return flops, {
        "pass": pass_,
        "batch": int(image[0]),
        "in_channels": int(sides[0][channel]),
        "out_channels": int(sides[1][channel]),
        "groups": int(image[channel]) if is_depthwise else int(image[channel] // kernel[-2]),
        "kernel": tuple(kernel[:-2]),
        "stride": tuple(int(s) for s in op.get_attr("strides")[spatial]),
        "in_size": tuple(sides[0][spatial]),
        "out_size": tuple(sides[1][spatial]),
        "transposed": transposed,
    }


def _norm(op: Any, elements: int) -> Found:
    given = "is_training" in op.node_def.attr and not op.get_attr("is_training")
    per_element = _GIVEN_STATISTICS if given and "Grad" not in op.type else NORMS[op.type]
    return "norm", per_element * elements, {"statistics": "given" if given and "Grad" not in op.type else "batch"}


def _pooled(op: Any, read: int, written: int) -> float:
    if "Grad" in op.type or "ksize" not in op.node_def.attr:
        return float(max(read, written))
    return float(written * math.prod(op.get_attr("ksize")))
