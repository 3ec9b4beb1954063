"""What PyTorch's operations are: their kind, their floating-point operations, and what a chip model needs besides.

A multiply-add counts as two, as in ``torch.utils.flop_counter``, which has formulas for convolutions and matrix
products only. Element-wise operations count one per output element, whatever they compute, but two where they multiply
and add; reductions one per input element. Products and decompositions of complex matrices count four times as much as
of real ones; elsewhere a complex number counts as one element. What else is counted:

=============================  ============================================================================
batch, group, layer norm       8 per input element (mean 1, variance 3, scaling 4), 10 in the backward pass;
                               4 where the statistics are given
softmax                        5 per element, 4 in the backward pass
pooling, up-sampling           the window's size per output element; in the backward pass 1 per element
dropout                        2 per element
FFT of n numbers               5 n log2 n, half of it for real ones (Cooley and Tukey 1965; the usual convention)
Cholesky, LU, QR, eigh, SVD    n^3/3, 2n^3/3, 4n^3/3, 9n^3 and 14mn^2 + 8n^3 (Golub and Van Loan 2013)
copies, gathers                0
=============================  ============================================================================
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor

Found = Tuple[str, float, Dict[str, Any]]
"""Kind, floating-point operations and attributes of one operation."""


def _names(text: str) -> FrozenSet[str]:
    return frozenset(text.split())


COMPLEX = 4.0  # real multiply-adds in a complex one
_MULTIPLY_ADDS = _names("addcmul addcdiv")
MATMULS = _names("mm addmm bmm baddbmm mv addmv dot vdot")
COPIES = _names(
    "clone copy _to_copy cat stack constant_pad_nd fill zero zeros zeros_like ones ones_like full full_like new_zeros "
    "new_ones new_full arange linspace eye scalar_tensor tril triu flip roll repeat slice_backward select_backward "
    "diagonal_backward slice_scatter select_scatter as_strided_scatter reflection_pad1d reflection_pad2d "
    "reflection_pad3d replication_pad1d replication_pad2d replication_pad3d pixel_shuffle pixel_unshuffle "
    "channel_shuffle unfold_backward resize expand_copy permute_copy split_with_sizes_copy block_diag rot90"
)
GATHERS = _names(
    "index index_select gather take embedding index_put _unsafe_index _unsafe_index_put _index_put_impl scatter "
    "scatter_add scatter_reduce index_add index_copy index_fill put take_along_dim embedding_dense_backward "
    "masked_scatter masked_select upsample_nearest1d upsample_nearest2d upsample_nearest3d im2col col2im"
)
RANDOMS = _names(
    "rand randn randint randperm normal uniform bernoulli exponential geometric cauchy log_normal random rand_like "
    "randn_like randint_like multinomial poisson native_dropout _standard_gamma _sample_dirichlet rrelu_with_noise"
)
NORMS = {  # per input element
    "native_batch_norm": 8.0,
    "_native_batch_norm_legit": 8.0,
    "_native_batch_norm_legit_functional": 8.0,
    "_native_batch_norm_legit_no_training": 8.0,
    "_batch_norm_with_update": 8.0,
    "_batch_norm_no_update": 8.0,
    "native_layer_norm": 8.0,
    "native_group_norm": 8.0,
    "_fused_rms_norm": 8.0,
    "native_batch_norm_backward": 10.0,
    "batch_norm_backward": 10.0,
    "native_layer_norm_backward": 10.0,
    "native_group_norm_backward": 10.0,
    "_softmax": 5.0,
    "_log_softmax": 5.0,
    "_softmax_backward_data": 4.0,
    "_log_softmax_backward_data": 4.0,
}
_GIVEN_STATISTICS = 4.0
_GIVEN = _names("_native_batch_norm_legit_no_training _batch_norm_no_update")
POOLS = (
    "max_pool", "avg_pool", "_adaptive_avg_pool", "adaptive_max_pool", "fractional_max_pool", "max_unpool",
    "upsample_linear", "upsample_bilinear", "upsample_bicubic", "upsample_trilinear", "_upsample_bi", "grid_sampler",
    "_adaptive", "mkldnn_max_pool", "mkldnn_adaptive",
)  # fmt: skip
REDUCTIONS = _names(
    "sum mean prod amax amin aminmax max min argmax argmin var std var_mean std_mean norm linalg_vector_norm logsumexp "
    "cumsum cumprod cummax cummin logcumsumexp any all count_nonzero nansum median nanmedian mode kthvalue topk sort "
    "nll_loss_forward nll_loss2d_forward _nested_sum trace histc _foreach_norm linalg_matrix_norm mse_loss "
    "smooth_l1_loss huber_loss binary_cross_entropy searchsorted bucketize"
)
_SCATTERED_SUMS = _names("scatter_add scatter_reduce index_add embedding_dense_backward")

WRITES_ALL = _names("fill zero copy normal uniform bernoulli exponential geometric cauchy log_normal random resize")
"""In-place operations that do not read what they overwrite."""


def base_name(func: Any) -> str:
    """Return an operation's name without the underscore of those that work in place."""
    name = str(func.overloadpacket.__name__)
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def classify(
    func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], ins: List[Tensor], outs: List[Tensor]
) -> Found:
    """Say what an operation is.

    Args:
        func: torch's own object of it.
        name: as :func:`base_name` has it.
        args: positional arguments of the call.
        kwargs: the others.
        ins: tensors among them that are read.
        outs: tensors that are written.
    """
    read, written = sum(t.numel() for t in ins), sum(t.numel() for t in outs)
    in_real = COMPLEX if any(t.is_complex() for t in ins) else 1.0
    if name in MATMULS:
        return _matmul(name, args, in_real)
    if name == "convolution":
        return "conv", *convolution(args[0], args[1], outs[0].shape, args[3], bool(args[6]), int(args[8]), "fwd")
    if name in COPIES:
        return "copy", 0.0, {}
    if name in GATHERS:
        return "gather", float(written if name in _SCATTERED_SUMS else 0), {}
    if name in RANDOMS:
        return "random", float(written), {}
    if name in NORMS:
        return _norm(name, args, kwargs, ins)
    if name.startswith(POOLS):
        return "pool", _pooled(name, args, read, written), {}
    if name in REDUCTIONS:
        return "reduce", float(read), {}
    if name in _OTHERS:
        return "other", (1.0 if name.startswith("_fft") else in_real) * _OTHERS[name](args, outs), {}
    known = _registered(func, args, kwargs, outs)
    if known is not None:
        return "matmul", known, {}
    if not ins:
        return "copy", 0.0, {}
    if max(t.numel() for t in outs) < max(t.numel() for t in ins):
        return "reduce", float(read), {}
    return "elementwise", float(written * (2 if name in _MULTIPLY_ADDS else 1)), {}


def convolution(
    x: Tensor,
    weight: Tensor,
    out_shape: Sequence[int],
    stride: Sequence[int],
    transposed: bool,
    groups: int,
    pass_: str,
) -> Tuple[float, Dict[str, Any]]:
    """Return the operations of one pass of a convolution, and its attributes; all three passes multiply as often.

    For the gradient of a grouped convolution's kernel ``torch.utils.flop_counter`` says ``groups`` times as many.

    Args:
        x: what the forward pass reads, shape (batch, channels, ...).
        weight: its kernel.
        out_shape: of its output.
        stride: one for each spatial axis, or one for all.
        transposed: whether it is a transposed one.
        groups: of channels.
        pass_: ``fwd``, ``dgrad`` (with respect to ``x``) or ``wgrad`` (to the kernel).
    """
    kernel = tuple(weight.shape[2:])
    positions = math.prod(x.shape[2:] if transposed else out_shape[2:])
    flops = 2.0 * x.shape[0] * positions * weight.numel()
    return flops, {
        "pass": pass_,
        "batch": int(x.shape[0]),
        "in_channels": int(x.shape[1]),
        "out_channels": int(out_shape[1]),
        "groups": groups,
        "kernel": kernel,
        "stride": tuple(stride) if len(stride) == len(kernel) else tuple(stride) * len(kernel),
        "in_size": tuple(x.shape[2:]),
        "out_size": tuple(out_shape[2:]),
        "transposed": transposed,
    }


def _matmul(name: str, args: Sequence[Any], in_real: float) -> Found:
    left, right = args[1:3] if name.startswith(("add", "badd")) else args[:2]
    batch = int(left.shape[0]) if left.dim() == 3 else 1
    m = int(left.shape[-2]) if left.dim() > 1 else 1
    k, n = int(left.shape[-1]), int(right.shape[-1]) if right.dim() > 1 else 1
    return "matmul", in_real * 2.0 * batch * m * k * n, {"batch": batch, "m": m, "k": k, "n": n}


def _norm(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], ins: Sequence[Tensor]) -> Found:
    """Batch normalisation says whether it trains, the sixth of its arguments or ``training``; all others do."""
    trains = kwargs.get("training", args[5] if len(args) > 5 else True)
    given = name in _GIVEN or (name in ("native_batch_norm", "_native_batch_norm_legit") and trains is False)
    per_element = _GIVEN_STATISTICS if given else NORMS[name]
    elements = max(t.numel() for t in ins)
    return "norm", per_element * elements, {"statistics": "given" if given else "batch"}


def _pooled(name: str, args: Sequence[Any], read: int, written: int) -> float:
    if "backward" in name or name.startswith(("adaptive", "_adaptive", "mkldnn_adaptive", "max_unpool")):
        return float(max(read, written))
    axes = next((int(digit) for digit in "123" if f"{digit}d" in name), 2)
    if "pool" not in name:  # up-sampling: the points that a new one is made from
        return float(written * (4 if "bicubic" in name else 2) ** axes)
    window = args[1] if isinstance(args[1], (list, tuple)) else [args[1]]
    size = math.prod(window) if len(window) == axes else window[0] ** axes
    return float(written * size / (2 if "max_pool" in name else 1))  # the indices of the maxima are written too


def _registered(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], outs: List[Tensor]) -> Optional[float]:
    """Return what torch's own counter says of attention and the like; None where it has no formula."""
    try:
        from torch.utils.flop_counter import flop_registry
    except ImportError:  # before torch 2.1
        return None
    formula = flop_registry.get(func.overloadpacket)
    return None if formula is None else float(formula(*args, **kwargs, out_val=outs[0] if len(outs) == 1 else outs))


def _per_matrix(count: Callable[[int, int], float]) -> Callable[[Sequence[Any], List[Tensor]], float]:
    """Return what counts a decomposition of each of a batch of matrices, (..., m, n), from m and n."""

    def counted(args: Sequence[Any], outs: List[Tensor]) -> float:
        *batch, m, n = map(int, args[0].shape)
        return math.prod(batch) * count(m, n)

    return counted


def _solved(factor: float) -> Callable[[Sequence[Any], List[Tensor]], float]:
    """Return what counts solving with n right-hand sides of length m; ``factor`` m^3 for the decomposition before."""

    def counted(args: Sequence[Any], outs: List[Tensor]) -> float:
        solution = outs[0]
        m = int(solution.shape[-2 if solution.dim() > 1 else -1])
        sides = int(solution.shape[-1]) if solution.dim() > 1 else 1
        matrices = solution.numel() // max(1, m * sides)
        return matrices * (factor * m**3 + (2.0 if factor else 1.0) * m * m * sides)

    return counted


def _transformed(factor: float) -> Callable[[Sequence[Any], List[Tensor]], float]:
    """Return what counts Fourier transforms over the axes in the second argument."""

    def counted(args: Sequence[Any], outs: List[Tensor]) -> float:
        longer = max((args[0], *outs), key=lambda t: t.numel())
        points = math.prod(int(longer.shape[axis]) for axis in args[1])
        return factor * int(longer.numel()) * math.log2(max(2, points))

    return counted


def _distances(args: Sequence[Any], outs: List[Tensor]) -> float:
    """Count the distances between all pairs: a difference, a square and a sum along the last axis."""
    return 3.0 * outs[0].numel() * int(args[0].shape[-1])


_LU = _per_matrix(lambda m, n: 2.0 * min(m, n) ** 3 / 3)
_OTHERS: Dict[str, Callable[[Sequence[Any], List[Tensor]], float]] = {
    "_fft_c2c": _transformed(5.0),
    "_fft_r2c": _transformed(2.5),
    "_fft_c2r": _transformed(2.5),
    "linalg_cholesky_ex": _per_matrix(lambda m, n: n**3 / 3),
    "cholesky": _per_matrix(lambda m, n: n**3 / 3),
    "cholesky_inverse": _per_matrix(lambda m, n: 2.0 * n**3 / 3),
    "linalg_lu_factor_ex": _LU,
    "linalg_lu": _LU,
    "_linalg_det": _LU,
    "_linalg_slogdet": _LU,
    "linalg_inv_ex": _per_matrix(lambda m, n: 2.0 * n**3),
    "linalg_qr": _per_matrix(lambda m, n: 4.0 * max(m, n) * min(m, n) ** 2 - 4.0 * min(m, n) ** 3 / 3),
    "_linalg_eigh": _per_matrix(lambda m, n: 9.0 * n**3),
    "linalg_eig": _per_matrix(lambda m, n: 25.0 * n**3),
    "_linalg_svd": _per_matrix(lambda m, n: 14.0 * max(m, n) * min(m, n) ** 2 + 8.0 * min(m, n) ** 3),
    "linalg_matrix_exp": _per_matrix(lambda m, n: 16.0 * n**3),  # about eight products: Bader, Blanes, Casas (2019)
    "_linalg_solve_ex": _solved(2.0 / 3),
    "linalg_solve_triangular": _solved(0.0),
    "triangular_solve": _solved(0.0),
    "cholesky_solve": _solved(0.0),
    "_cdist_forward": _distances,
}

DATA_DEPENDENT = _names(
    "_local_scalar_dense nonzero masked_select unique_dim _unique _unique2 unique_consecutive equal "
    "is_nonzero bincount item"
)
"""What they return, or its shape, depends on values."""


def depends_on_values(func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Say whether an operation cannot be traced without computing."""
    if name in DATA_DEPENDENT:
        return True
    if name == "repeat_interleave":
        return "output_size" not in kwargs and isinstance(args[0], Tensor) and func._overloadname == "Tensor"
    indices = args[1] if name in ("index", "_unsafe_index") and len(args) > 1 else ()
    return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices)
