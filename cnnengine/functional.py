"""Every layer as a function on arrays, usable without any model.

All functions take float32 arrays in PyTorch's and ONNX's order (N, C, spatial...) and follow ONNX's semantics and defaults.
Common to all:

threads : int, optional
    At most this many threads; the default of `cnnengine.show_config()` when left out. Small layers run on one.
out : ndarray, optional
    A writable float32 array of the result's shape to write into and return.

Strided, Fortran-ordered, misaligned and byte-swapped arrays are copied, read-only ones are accepted. They raise `InputError`
for a wrong dtype or kind of argument, and `ShapeError`, which names the argument, for shapes or geometry that do not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from .arguments import array as as_array
from .arguments import boolean, integer, number
from .errors import CNNEngineError, InputError, ModelError, ShapeError
from .operator import NodeRecord, Operator
from .ops import activation as _act
from .ops import norm as _norm
from .ops import pool as _pool
from .ops import recurrent as _rec
from .ops import reduce as _reduce
from .ops.conv import Conv, ConvTranspose
from .ops.dense import Gemm
from .plan.eager import run_operator
from .runtime.threads import default_threads
from .spec import TensorSpec

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "celu",
    "clip",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "dense",
    "dropout",
    "elu",
    "flatten",
    "gelu",
    "global_avg_pool",
    "global_lp_pool",
    "global_max_pool",
    "group_norm",
    "gru",
    "hard_sigmoid",
    "hard_swish",
    "instance_norm",
    "layer_norm",
    "leaky_relu",
    "local_response_norm",
    "log_softmax",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "lstm",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "mish",
    "prelu",
    "relu",
    "rnn",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "spatial_pyramid_pool",
    "tanh",
]

Array = npt.NDArray[np.float32]
IntOrInts = int | Sequence[int]
FLOAT32 = np.dtype(np.float32)


# ---------------------------------------------------------------- arguments
def _array(value: Any, name: str, rank: int | None = None, dtype: np.dtype = FLOAT32) -> np.ndarray:
    """`value` as a native, aligned, C-contiguous array of this dtype (copied where it is not) and rank."""
    if type(value) is np.ndarray and value.dtype == dtype and (rank is None or value.ndim == rank):
        flags = value.flags
        if flags.c_contiguous and flags.aligned and value.dtype.isnative:
            return value
    array = as_array(value, name)
    if array.dtype.newbyteorder("=") != dtype:
        raise InputError("has the wrong dtype", tensor=name, expected=dtype, received=array.dtype)
    if rank is not None and array.ndim != rank:
        raise ShapeError("has the wrong number of axes", tensor=name, expected=rank, received=array.shape)
    return np.require(array, dtype, ("C", "ALIGNED")).reshape(array.shape)


def _int(value: Any, name: str) -> int:
    return value if type(value) is int else integer(value, name, None, None)


def _is_listed(value: Any) -> bool:
    """Whether there is one for each axis; a 0-d array is a number."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def _ints(value: Any, name: str, rank: int, low: int = 1) -> tuple[int, ...]:
    """An int, or one per axis."""
    items = tuple(value) if _is_listed(value) else (value,) * rank
    result = tuple(_int(v, name) for v in items)
    if len(result) != rank:
        raise ShapeError("has the wrong length", tensor=name, expected=f"an int or {rank}", received=value)
    if min(result, default=low) < low:
        raise ShapeError("is out of range", tensor=name, expected=f">= {low}", received=value)
    if max(result, default=low) > 2**31 - 1:
        raise ShapeError("is out of range", tensor=name, expected="< 2**31", received=value)
    return result


def _pads(value: Any, rank: int) -> tuple[int, ...]:
    """An int, one per axis, or all begins then all ends -> begins then ends."""
    if _is_listed(value) and len(value) == 2 * rank:
        return _ints(value, "pads", 2 * rank, 0)
    try:
        return _ints(value, "pads", rank, 0) * 2
    except ShapeError as error:
        if "length" not in error.message:
            raise
        raise ShapeError(
            "has the wrong length", tensor="pads", expected=f"an int, {rank} or {2 * rank}", received=value
        ) from None


def _auto_pad(value: Any) -> str:
    if not isinstance(value, str) or value not in ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"):
        raise InputError(
            "unknown auto_pad", tensor="auto_pad", expected="NOTSET, SAME_UPPER, SAME_LOWER or VALID", received=value
        )
    return value


def _vector(value: Any, name: str, size: int) -> np.ndarray:
    array = _array(value, name)
    if array.shape != (size,):
        raise ShapeError("has the wrong shape", tensor=name, expected=(size,), received=array.shape)
    return array


def _run(op: Operator, inputs: Sequence[np.ndarray | None], threads: int | None, out: Any, count: int = 1) -> list[Any]:
    """Run an operator, into `out` where it is given."""
    workers = None if threads is None else default_threads(threads)
    target = None
    if out is not None:
        shape = _result_shape(op, inputs)
        if not isinstance(out, np.ndarray) or out.dtype != FLOAT32:
            raise InputError(
                "must be a float32 array", tensor="out", expected="float32", received=getattr(out, "dtype", type(out))
            )
        if out.shape != shape:
            raise ShapeError("has the wrong shape", tensor="out", expected=shape, received=out.shape)
        if not out.flags.writeable:
            raise InputError("must be writable", tensor="out", expected="a writable array", received="a read-only one")
        direct = (
            out.flags.c_contiguous
            and out.flags.aligned
            and not any(a is not None and np.may_share_memory(a, out) for a in inputs)
        )
        target = out if direct else None
    results = run_operator(op, inputs, threads=workers, out=target, outputs=count)
    if out is not None and target is None:
        out[...] = results[0]
        results[0] = out
    return results


def _result_shape(op: Operator, inputs: Sequence[np.ndarray | None]) -> tuple[int, ...]:
    specs = [None if a is None else TensorSpec.of(a) for a in inputs]
    return op.specs(specs)[0].concrete


def _unary(op: Operator, x: Any, threads: int | None, out: Array | None) -> Array:
    return cast(Array, _run(op, [_array(x, "x")], threads, out)[0])


# ---------------------------------------------------------------- convolution
def _conv(
    rank: int,
    x: Any,
    w: Any,
    bias: Any,
    stride: IntOrInts,
    pads: IntOrInts,
    dilation: IntOrInts,
    groups: int,
    auto_pad: str,
    threads: int | None,
    out: Array | None,
) -> Array:
    xa, wa = _array(x, "x", rank + 2), _array(w, "w", rank + 2)
    op = Conv(
        None,
        _ints(stride, "stride", rank),
        _ints(dilation, "dilation", rank),
        _pads(pads, rank),
        _auto_pad(auto_pad),
        _int(groups, "groups"),
    )
    arrays = [xa, wa, None if bias is None else _array(bias, "bias", 1)]
    return cast(Array, _run(op, arrays, threads, out)[0])


def conv1d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
    auto_pad: str = "NOTSET",
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Convolution over one axis: x (N, C, L), w (O, C / groups, k) -> (N, O, L'). See `conv2d`."""
    return _conv(1, x, w, bias, stride, pads, dilation, groups, auto_pad, threads, out)


def conv2d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
    auto_pad: str = "NOTSET",
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Convolution over two axes (ONNX Conv-22).

    Parameters
    ----------
    x : array_like of float32, (N, C, H, W)
    w : array_like of float32, (O, C / groups, kh, kw)
    bias : array_like of float32, (O,), optional
    stride, dilation : int or (h, w)
    pads : int, (h, w), or (top, left, bottom, right)
        Pixels of zeros; with auto_pad NOTSET alone.
    groups : int
        Divides C and O; groups == C is a depthwise convolution.
    auto_pad : {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"}
        SAME makes H' = ceil(H / stride), an odd pixel of padding at the end (UPPER) or the beginning (LOWER).
    threads : int, optional
    out : ndarray, optional

    Returns
    -------
    ndarray of float32, (N, O, H', W')
        ``H' = floor((H + top + bottom - dilation * (kh - 1) - 1) / stride) + 1``

    Raises
    ------
    InputError, ShapeError
    """
    return _conv(2, x, w, bias, stride, pads, dilation, groups, auto_pad, threads, out)


def conv3d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
    auto_pad: str = "NOTSET",
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Convolution over three axes: x (N, C, D, H, W), w (O, C / groups, kd, kh, kw) -> (N, O, D', H', W'). See `conv2d`."""
    return _conv(3, x, w, bias, stride, pads, dilation, groups, auto_pad, threads, out)


def _conv_transpose(
    rank: int,
    x: Any,
    w: Any,
    bias: Any,
    stride: IntOrInts,
    pads: IntOrInts,
    output_padding: IntOrInts,
    output_shape: Sequence[int] | None,
    dilation: IntOrInts,
    groups: int,
    auto_pad: str,
    threads: int | None,
    out: Array | None,
) -> Array:
    xa, wa = _array(x, "x", rank + 2), _array(w, "w", rank + 2)
    op = ConvTranspose(
        None,
        _ints(stride, "stride", rank),
        _ints(dilation, "dilation", rank),
        _pads(pads, rank),
        _auto_pad(auto_pad),
        _int(groups, "groups"),
        output_padding=_ints(output_padding, "output_padding", rank, 0),
        output_shape=() if output_shape is None else _ints(output_shape, "output_shape", rank),
    )
    arrays = [xa, wa, None if bias is None else _array(bias, "bias", 1)]
    return cast(Array, _run(op, arrays, threads, out)[0])


def conv_transpose1d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    output_shape: Sequence[int] | None = None,
    dilation: IntOrInts = 1,
    groups: int = 1,
    auto_pad: str = "NOTSET",
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Transposed convolution over one axis: x (N, C, L), w (C, O / groups, k) -> (N, O, L'). See `conv_transpose2d`."""
    return _conv_transpose(1, x, w, bias, stride, pads, output_padding, output_shape, dilation, groups, auto_pad, threads, out)


def conv_transpose2d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    output_shape: Sequence[int] | None = None,
    dilation: IntOrInts = 1,
    groups: int = 1,
    auto_pad: str = "NOTSET",
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Transposed convolution over two axes (ONNX ConvTranspose-22).

    Parameters
    ----------
    x : array_like of float32, (N, C, H, W)
    w : array_like of float32, (C, O / groups, kh, kw)
    bias : array_like of float32, (O,), optional
    stride, dilation : int or (h, w)
    pads : int, (h, w), or (top, left, bottom, right)
        Pixels cut from the full result.
    output_padding : int or (h, w)
        Pixels added at the end, smaller than stride or dilation.
    output_shape : (H', W'), optional
        Overrides the pads.
    groups : int
    auto_pad : {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"}
        SAME makes H' = H * stride.
    threads : int, optional
    out : ndarray, optional

    Returns
    -------
    ndarray of float32, (N, O, H', W')
        ``H' = stride * (H - 1) + output_padding + dilation * (kh - 1) + 1 - top - bottom``

    Raises
    ------
    InputError, ShapeError
    """
    return _conv_transpose(2, x, w, bias, stride, pads, output_padding, output_shape, dilation, groups, auto_pad, threads, out)


def conv_transpose3d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    output_shape: Sequence[int] | None = None,
    dilation: IntOrInts = 1,
    groups: int = 1,
    auto_pad: str = "NOTSET",
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Transposed convolution over three axes: x (N, C, D, H, W), w (C, O / groups, kd, kh, kw). See `conv_transpose2d`."""
    return _conv_transpose(3, x, w, bias, stride, pads, output_padding, output_shape, dilation, groups, auto_pad, threads, out)


# ---------------------------------------------------------------- pooling
def _window(
    rank: int, kernel: IntOrInts, stride: IntOrInts, pads: IntOrInts, dilation: IntOrInts, ceil_mode: bool, auto_pad: str
) -> dict[str, Any]:
    return {
        "kernel_shape": _ints(kernel, "kernel", rank),
        "strides": _ints(stride, "stride", rank),
        "pads": _pads(pads, rank),
        "dilations": _ints(dilation, "dilation", rank),
        "auto_pad": _auto_pad(auto_pad),
        "ceil_mode": int(boolean(ceil_mode, "ceil_mode")),
    }


def _max_pool(
    rank: int, x: Any, window: dict[str, Any], return_indices: bool, threads: int | None, out: Array | None
) -> Array | tuple[Array, npt.NDArray[np.int64]]:
    op = _pool.MaxPool(**window, indices=boolean(return_indices, "return_indices"))
    results = _run(op, [_array(x, "x", rank + 2)], threads, out, 2 if return_indices else 1)
    return (results[0], results[1]) if return_indices else results[0]


def max_pool1d(
    x: npt.ArrayLike,
    kernel: IntOrInts,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    auto_pad: str = "NOTSET",
    return_indices: bool = False,
    threads: int | None = None,
    out: Array | None = None,
) -> Array | tuple[Array, npt.NDArray[np.int64]]:
    """Largest value of each window: x (N, C, L) -> (N, C, L'). See `max_pool2d`."""
    return _max_pool(1, x, _window(1, kernel, stride, pads, dilation, ceil_mode, auto_pad), return_indices, threads, out)


def max_pool2d(
    x: npt.ArrayLike,
    kernel: IntOrInts,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    auto_pad: str = "NOTSET",
    return_indices: bool = False,
    threads: int | None = None,
    out: Array | None = None,
) -> Array | tuple[Array, npt.NDArray[np.int64]]:
    """Largest value of each window (ONNX MaxPool-22); windows may overlap, a NaN wins.

    Parameters
    ----------
    x : array_like of float32, (N, C, H, W)
    kernel, stride, dilation : int or (h, w)
    pads : int, (h, w), or (top, left, bottom, right)
        Padding never wins.
    ceil_mode : bool
        Round the output extent up; a window that would start in the end padding is dropped.
    auto_pad : {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"}
    return_indices : bool
        Also return where each maximum stands in the flattened x.
    threads : int, optional
    out : ndarray, optional

    Returns
    -------
    ndarray of float32, (N, C, H', W'), or a tuple of it and its int64 indices

    Raises
    ------
    InputError, ShapeError
    """
    return _max_pool(2, x, _window(2, kernel, stride, pads, dilation, ceil_mode, auto_pad), return_indices, threads, out)


def max_pool3d(
    x: npt.ArrayLike,
    kernel: IntOrInts,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    auto_pad: str = "NOTSET",
    return_indices: bool = False,
    threads: int | None = None,
    out: Array | None = None,
) -> Array | tuple[Array, npt.NDArray[np.int64]]:
    """Largest value of each window: x (N, C, D, H, W) -> (N, C, D', H', W'). See `max_pool2d`."""
    return _max_pool(3, x, _window(3, kernel, stride, pads, dilation, ceil_mode, auto_pad), return_indices, threads, out)


def _avg_pool(
    rank: int, x: Any, window: dict[str, Any], count_include_pad: bool, threads: int | None, out: Array | None
) -> Array:
    op = _pool.AveragePool(**window, count_include_pad=int(boolean(count_include_pad, "count_include_pad")))
    return cast(Array, _run(op, [_array(x, "x", rank + 2)], threads, out)[0])


def avg_pool1d(
    x: npt.ArrayLike,
    kernel: IntOrInts,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    auto_pad: str = "NOTSET",
    count_include_pad: bool = False,
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Mean of each window: x (N, C, L) -> (N, C, L'). See `avg_pool2d`."""
    return _avg_pool(1, x, _window(1, kernel, stride, pads, dilation, ceil_mode, auto_pad), count_include_pad, threads, out)


def avg_pool2d(
    x: npt.ArrayLike,
    kernel: IntOrInts,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    auto_pad: str = "NOTSET",
    count_include_pad: bool = False,
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Mean of each window (ONNX AveragePool-22).

    Parameters
    ----------
    x : array_like of float32, (N, C, H, W)
    kernel, stride, dilation, pads, ceil_mode, auto_pad
        As in `max_pool2d`.
    count_include_pad : bool
        Whether padding counts as values of zero; what lies beyond the padding (ceil_mode) never does.
    threads : int, optional
    out : ndarray, optional

    Returns
    -------
    ndarray of float32, (N, C, H', W')

    Raises
    ------
    InputError, ShapeError
    """
    return _avg_pool(2, x, _window(2, kernel, stride, pads, dilation, ceil_mode, auto_pad), count_include_pad, threads, out)


def avg_pool3d(
    x: npt.ArrayLike,
    kernel: IntOrInts,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    auto_pad: str = "NOTSET",
    count_include_pad: bool = False,
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Mean of each window: x (N, C, D, H, W) -> (N, C, D', H', W'). See `avg_pool2d`."""
    return _avg_pool(3, x, _window(3, kernel, stride, pads, dilation, ceil_mode, auto_pad), count_include_pad, threads, out)


def _order(p: Any) -> float:
    """The p of an L_p norm."""
    order = number(p, "p")
    if not order > 0:
        raise InputError("must be a positive number", tensor="p", expected="> 0", received=repr(p))
    return order


def _lp_pool(rank: int, x: Any, window: dict[str, Any], p: float, threads: int | None, out: Array | None) -> Array:
    op = _pool.LpPool(**window, p=_order(p))
    return cast(Array, _run(op, [_array(x, "x", rank + 2)], threads, out)[0])


def lp_pool1d(
    x: npt.ArrayLike,
    kernel: IntOrInts,
    *,
    p: float = 2,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    auto_pad: str = "NOTSET",
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """L_p norm of each window: x (N, C, L) -> (N, C, L'). See `lp_pool2d`."""
    return _lp_pool(1, x, _window(1, kernel, stride, pads, dilation, ceil_mode, auto_pad), p, threads, out)


def lp_pool2d(
    x: npt.ArrayLike,
    kernel: IntOrInts,
    *,
    p: float = 2,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    auto_pad: str = "NOTSET",
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """L_p norm of each window, ``sum(|x|^p)^(1/p)`` (ONNX LpPool-22); p = 2 is L2 pooling.

    Parameters
    ----------
    x : array_like of float32, (N, C, H, W)
    kernel, stride, dilation, pads, ceil_mode, auto_pad
        As in `max_pool2d`.
    p : float
        Positive.
    threads : int, optional
    out : ndarray, optional

    Returns
    -------
    ndarray of float32, (N, C, H', W')

    Raises
    ------
    InputError, ShapeError
    """
    return _lp_pool(2, x, _window(2, kernel, stride, pads, dilation, ceil_mode, auto_pad), p, threads, out)


def lp_pool3d(
    x: npt.ArrayLike,
    kernel: IntOrInts,
    *,
    p: float = 2,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    auto_pad: str = "NOTSET",
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """L_p norm of each window: x (N, C, D, H, W) -> (N, C, D', H', W'). See `lp_pool2d`."""
    return _lp_pool(3, x, _window(3, kernel, stride, pads, dilation, ceil_mode, auto_pad), p, threads, out)


def global_max_pool(x: npt.ArrayLike, *, threads: int | None = None, out: Array | None = None) -> Array:
    """Largest value of each channel (ONNX GlobalMaxPool-22): (N, C, spatial...) -> (N, C, 1...)."""
    return _unary(_pool.GlobalMaxPool(), x, threads, out)


def global_avg_pool(x: npt.ArrayLike, *, threads: int | None = None, out: Array | None = None) -> Array:
    """Mean of each channel (ONNX GlobalAveragePool-22): (N, C, spatial...) -> (N, C, 1...)."""
    return _unary(_pool.GlobalAveragePool(), x, threads, out)


def global_lp_pool(x: npt.ArrayLike, *, p: float = 2, threads: int | None = None, out: Array | None = None) -> Array:
    """L_p norm of each channel (ONNX GlobalLpPool-22): (N, C, spatial...) -> (N, C, 1...)."""
    return _unary(_pool.GlobalLpPool(_order(p)), x, threads, out)


def _adaptive(rank: int, mode: str, x: Any, output_size: IntOrInts, threads: int | None, out: Array | None) -> Array:
    op = _pool.AdaptivePool(_ints(output_size, "output_size", rank), mode)
    return cast(Array, _run(op, [_array(x, "x", rank + 2)], threads, out)[0])


def adaptive_max_pool1d(
    x: npt.ArrayLike, output_size: IntOrInts, *, threads: int | None = None, out: Array | None = None
) -> Array:
    """Largest value of each of `output_size` bins: (N, C, L) -> (N, C, l). See `adaptive_avg_pool2d`."""
    return _adaptive(1, "max", x, output_size, threads, out)


def adaptive_max_pool2d(
    x: npt.ArrayLike, output_size: IntOrInts, *, threads: int | None = None, out: Array | None = None
) -> Array:
    """Largest value of each bin: (N, C, H, W) -> (N, C, h, w). See `adaptive_avg_pool2d`."""
    return _adaptive(2, "max", x, output_size, threads, out)


def adaptive_max_pool3d(
    x: npt.ArrayLike, output_size: IntOrInts, *, threads: int | None = None, out: Array | None = None
) -> Array:
    """Largest value of each bin: (N, C, D, H, W) -> (N, C, d, h, w). See `adaptive_avg_pool2d`."""
    return _adaptive(3, "max", x, output_size, threads, out)


def adaptive_avg_pool1d(
    x: npt.ArrayLike, output_size: IntOrInts, *, threads: int | None = None, out: Array | None = None
) -> Array:
    """Mean of each of `output_size` bins: (N, C, L) -> (N, C, l). See `adaptive_avg_pool2d`."""
    return _adaptive(1, "avg", x, output_size, threads, out)


def adaptive_avg_pool2d(
    x: npt.ArrayLike, output_size: IntOrInts, *, threads: int | None = None, out: Array | None = None
) -> Array:
    """Mean of each bin, as PyTorch's AdaptiveAvgPool2d cuts them: bin i of o over n covers floor(i*n/o) to ceil((i+1)*n/o).

    Parameters
    ----------
    x : array_like of float32, (N, C, H, W)
    output_size : int or (h, w)
    threads : int, optional
    out : ndarray, optional

    Returns
    -------
    ndarray of float32, (N, C, h, w)

    Raises
    ------
    InputError, ShapeError
    """
    return _adaptive(2, "avg", x, output_size, threads, out)


def adaptive_avg_pool3d(
    x: npt.ArrayLike, output_size: IntOrInts, *, threads: int | None = None, out: Array | None = None
) -> Array:
    """Mean of each bin: (N, C, D, H, W) -> (N, C, d, h, w). See `adaptive_avg_pool2d`."""
    return _adaptive(3, "avg", x, output_size, threads, out)


def spatial_pyramid_pool(
    x: npt.ArrayLike,
    *,
    levels: Sequence[int] = (4, 2, 1),
    mode: str = "max",
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Spatial pyramid pooling (He et al. 2014, arXiv:1406.4729): images of any size to vectors of one length.

    Parameters
    ----------
    x : array_like of float32, (N, C, H, W)
    levels : sequence of int
        Each level l pools into l x l bins (as `adaptive_max_pool2d`), flattened in the order (C, l, l).
    mode : {"max", "avg"}
    threads : int, optional
    out : ndarray, optional

    Returns
    -------
    ndarray of float32, (N, C * sum(l * l for l in levels))
        The levels one after another.

    Raises
    ------
    InputError, ShapeError
    """
    if not isinstance(mode, str) or mode not in ("max", "avg"):
        raise InputError("unknown mode", tensor="mode", expected="'max' or 'avg'", received=mode)
    if not _is_listed(levels) or len(levels) == 0:
        raise ShapeError("must be a sequence of levels", tensor="levels", expected="one or more ints", received=levels)
    op = _pool.SpatialPyramidPool(_ints(levels, "levels", len(levels)), mode)
    return cast(Array, _run(op, [_array(x, "x", 4)], threads, out)[0])


def _max_unpool(
    rank: int,
    x: Any,
    indices: Any,
    kernel: IntOrInts,
    stride: IntOrInts,
    pads: IntOrInts,
    output_shape: Sequence[int] | None,
    threads: int | None,
    out: Array | None,
) -> Array:
    xa = _array(x, "x", rank + 2)
    ia = _array(indices, "indices", rank + 2, np.dtype(np.int64))
    if ia.shape != xa.shape:
        raise ShapeError("must have the shape of x", tensor="indices", expected=xa.shape, received=ia.shape)
    op = _pool.MaxUnpool(_ints(kernel, "kernel", rank), _ints(stride, "stride", rank), _pads(pads, rank))
    shape = None
    if output_shape is not None:
        sizes = _ints(output_shape, "output_shape", len(output_shape) if _is_listed(output_shape) else rank)
        if len(sizes) == rank:
            sizes = (*xa.shape[:2], *sizes)
        shape = np.array(sizes, np.int64)
    try:
        return cast(Array, _run(op, [xa, ia, shape], threads, out)[0])
    except CNNEngineError:
        raise
    except ValueError as error:  # the kernel's front checks every index
        raise InputError(str(error), tensor="indices", expected="positions in the result of the pooling") from None


def max_unpool1d(
    x: npt.ArrayLike,
    indices: npt.ArrayLike,
    kernel: IntOrInts,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    output_shape: Sequence[int] | None = None,
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Put the values of `max_pool1d` back: (N, C, L') -> (N, C, L). See `max_unpool2d`."""
    return _max_unpool(1, x, indices, kernel, stride, pads, output_shape, threads, out)


def max_unpool2d(
    x: npt.ArrayLike,
    indices: npt.ArrayLike,
    kernel: IntOrInts,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    output_shape: Sequence[int] | None = None,
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Put the values of `max_pool2d` back where they came from, zeros elsewhere (ONNX MaxUnpool-22).

    Parameters
    ----------
    x : array_like of float32, (N, C, H', W')
    indices : array_like of int64, the same shape
        Positions in the flattened result of the pooling that gave them.
    kernel, stride, pads
        Of that pooling: they decide the result's extents.
    output_shape : (H, W) or (N, C, H, W), optional
        The result's extents, when they differ.
    threads : int, optional
    out : ndarray, optional

    Returns
    -------
    ndarray of float32, (N, C, H, W)

    Raises
    ------
    InputError, ShapeError
    """
    return _max_unpool(2, x, indices, kernel, stride, pads, output_shape, threads, out)


def max_unpool3d(
    x: npt.ArrayLike,
    indices: npt.ArrayLike,
    kernel: IntOrInts,
    *,
    stride: IntOrInts = 1,
    pads: IntOrInts = 0,
    output_shape: Sequence[int] | None = None,
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Put the values of `max_pool3d` back: (N, C, D', H', W') -> (N, C, D, H, W). See `max_unpool2d`."""
    return _max_unpool(3, x, indices, kernel, stride, pads, output_shape, threads, out)


# ---------------------------------------------------------------- dense
def flatten(x: npt.ArrayLike, *, axis: int = 1, threads: int | None = None, out: Array | None = None) -> Array:
    """A matrix of the axes before `axis` by those from it on (ONNX Flatten-21); a copy.

    Parameters
    ----------
    x : array_like of float32
    axis : int
        From -rank to rank.

    Returns
    -------
    ndarray of float32, 2-D

    Raises
    ------
    InputError, ShapeError
    """
    from .ops.shape import Flatten

    return _unary(Flatten(_int(axis, "axis")), x, threads, out)


def dense(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """``x @ w.T + bias`` (ONNX Gemm-13 with transB).

    Parameters
    ----------
    x : array_like of float32, (N, in)
    w : array_like of float32, (out, in)
    bias : array_like of float32, (out,), optional
    threads : int, optional
    out : ndarray, optional

    Returns
    -------
    ndarray of float32, (N, out)

    Raises
    ------
    InputError, ShapeError
    """
    xa, wa = _array(x, "x", 2), _array(w, "w", 2)
    if xa.shape[1] != wa.shape[1]:
        raise ShapeError("does not fit x", tensor="w", expected=f"(out, {xa.shape[1]})", received=wa.shape)
    ba = None if bias is None else _vector(bias, "bias", wa.shape[0])
    return cast(Array, _run(Gemm(transB=1), [xa, wa, ba], threads, out)[0])


# ---------------------------------------------------------------- normalisation
def _channels(x: np.ndarray) -> int:
    if x.ndim < 2:
        raise ShapeError("needs a channel axis", tensor="x", expected="(N, C, ...)", received=x.shape)
    return int(x.shape[1])


def batch_norm(
    x: npt.ArrayLike,
    scale: npt.ArrayLike,
    bias: npt.ArrayLike,
    mean: npt.ArrayLike,
    var: npt.ArrayLike,
    *,
    epsilon: float = 1e-5,
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """``(x - mean) / sqrt(var + epsilon) * scale + bias`` per channel (ONNX BatchNormalization-15 at inference).

    Parameters
    ----------
    x : array_like of float32, (N, C, ...)
    scale, bias, mean, var : array_like of float32, (C,)
    epsilon : float
    threads : int, optional
    out : ndarray, optional

    Returns
    -------
    ndarray of float32, the shape of x

    Raises
    ------
    InputError, ShapeError
    """
    xa = _array(x, "x")
    c = _channels(xa)
    arrays = [_vector(v, n, c) for v, n in ((scale, "scale"), (bias, "bias"), (mean, "mean"), (var, "var"))]
    return cast(Array, _run(_norm.BatchNormalization(epsilon=number(epsilon, "epsilon")), [xa, *arrays], threads, out)[0])


def layer_norm(
    x: npt.ArrayLike,
    scale: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Normalise over the axes from `axis` on (ONNX LayerNormalization-17).

    Parameters
    ----------
    x : array_like of float32
    scale, bias : array_like of float32, optional
        Of a shape that broadcasts to the normalised axes; 1 and 0 when left out.
    axis : int
    epsilon : float
    threads : int, optional
    out : ndarray, optional

    Returns
    -------
    ndarray of float32, the shape of x

    Raises
    ------
    InputError, ShapeError
    """
    xa = _array(x, "x")
    at = _int(axis, "axis")
    if not -xa.ndim <= at < xa.ndim:
        raise ShapeError("there is no such axis", tensor="axis", expected=f"{-xa.ndim} to {xa.ndim - 1}", received=axis)
    shape = xa.shape[at:]
    sa = np.ones(shape, np.float32) if scale is None else _array(scale, "scale")
    ba = None if bias is None else _array(bias, "bias")
    for name, array in (("scale", sa), ("bias", ba)):
        if array is None:
            continue
        try:
            fits = np.broadcast_shapes(array.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError("does not fit the normalised axes", tensor=name, expected=shape, received=array.shape)
    op = _norm.LayerNormalization(axis=at, epsilon=number(epsilon, "epsilon"))
    return cast(Array, _run(op, [xa, sa, ba], threads, out)[0])


def instance_norm(
    x: npt.ArrayLike,
    scale: npt.ArrayLike,
    bias: npt.ArrayLike,
    *,
    epsilon: float = 1e-5,
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Normalise every channel of every sample by itself (ONNX InstanceNormalization-22).

    Parameters
    ----------
    x : array_like of float32, (N, C, spatial...)
    scale, bias : array_like of float32, (C,)
    epsilon : float
    threads : int, optional
    out : ndarray, optional

    Returns
    -------
    ndarray of float32, the shape of x

    Raises
    ------
    InputError, ShapeError
    """
    xa = _array(x, "x")
    c = _channels(xa)
    op = _norm.InstanceNormalization(epsilon=number(epsilon, "epsilon"))
    return cast(Array, _run(op, [xa, _vector(scale, "scale", c), _vector(bias, "bias", c)], threads, out)[0])


def group_norm(
    x: npt.ArrayLike,
    scale: npt.ArrayLike,
    bias: npt.ArrayLike,
    *,
    groups: int,
    epsilon: float = 1e-5,
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """Normalise groups of channels of every sample (ONNX GroupNormalization-21).

    Parameters
    ----------
    x : array_like of float32, (N, C, spatial...)
    scale, bias : array_like of float32, (C,)
    groups : int
        Divides C.
    epsilon : float
    threads : int, optional
    out : ndarray, optional

    Returns
    -------
    ndarray of float32, the shape of x

    Raises
    ------
    InputError, ShapeError
    """
    xa = _array(x, "x")
    c = _channels(xa)
    count = _int(groups, "groups")
    if count < 1 or c % count:
        raise ShapeError("must divide the channels", tensor="groups", expected=f"a divisor of {c}", received=groups)
    op = _norm.GroupNormalization(num_groups=count, epsilon=number(epsilon, "epsilon"))
    return cast(Array, _run(op, [xa, _vector(scale, "scale", c), _vector(bias, "bias", c)], threads, out)[0])


def local_response_norm(
    x: npt.ArrayLike,
    *,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    bias: float = 1.0,
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """``x / (bias + alpha / size * sum of squares over size neighbouring channels) ** beta`` (ONNX LRN-13).

    Parameters
    ----------
    x : array_like of float32, (N, C, spatial...)
    size : int
        Channels of the window, floor((size - 1) / 2) of them before the channel itself.
    alpha, beta, bias : float
    threads : int, optional
    out : ndarray, optional

    Returns
    -------
    ndarray of float32, the shape of x

    Raises
    ------
    InputError, ShapeError
    """
    xa = _array(x, "x")
    _channels(xa)
    (window,) = _ints(size, "size", 1)
    op = _norm.LRN(size=window, alpha=number(alpha, "alpha"), beta=number(beta, "beta"), bias=number(bias, "bias"))
    return cast(Array, _run(op, [xa], threads, out)[0])


def dropout(x: npt.ArrayLike, *, threads: int | None = None, out: Array | None = None) -> Array:
    """The identity: dropout at inference (ONNX Dropout-22); a copy."""
    from .ops.shape import Identity

    return _unary(Identity(), x, threads, out)


# ---------------------------------------------------------------- activations
def relu(x: npt.ArrayLike, *, threads: int | None = None, out: Array | None = None) -> Array:
    """``max(x, 0)`` (ONNX Relu-14); NaN stays NaN."""
    return _unary(_act.Relu(), x, threads, out)


def leaky_relu(x: npt.ArrayLike, *, alpha: float = 0.01, threads: int | None = None, out: Array | None = None) -> Array:
    """``x`` above zero, ``alpha * x`` below (ONNX LeakyRelu-16)."""
    return _unary(_act.LeakyRelu(alpha=number(alpha, "alpha")), x, threads, out)


def prelu(x: npt.ArrayLike, slope: npt.ArrayLike, *, threads: int | None = None, out: Array | None = None) -> Array:
    """``x`` above zero, ``slope * x`` below (ONNX PRelu-16); slope broadcasts to x, a channel's slope being (C, 1, 1)."""
    xa, sa = _array(x, "x"), _array(slope, "slope")
    try:
        fits = np.broadcast_shapes(xa.shape, sa.shape) == xa.shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError("does not broadcast to x", tensor="slope", expected=xa.shape, received=sa.shape)
    return cast(Array, _run(_act.PRelu(), [xa, sa], threads, out)[0])


def elu(x: npt.ArrayLike, *, alpha: float = 1.0, threads: int | None = None, out: Array | None = None) -> Array:
    """``x`` above zero, ``alpha * (exp(x) - 1)`` below (ONNX Elu-22)."""
    return _unary(_act.Elu(alpha=number(alpha, "alpha")), x, threads, out)


def selu(
    x: npt.ArrayLike,
    *,
    alpha: float = 1.67326319217681884765625,
    gamma: float = 1.05070102214813232421875,
    threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """``gamma * x`` above zero, ``gamma * alpha * (exp(x) - 1)`` below (ONNX Selu-22)."""
    return _unary(_act.Selu(alpha=number(alpha, "alpha"), gamma=number(gamma, "gamma")), x, threads, out)


def celu(x: npt.ArrayLike, *, alpha: float = 1.0, threads: int | None = None, out: Array | None = None) -> Array:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))`` (ONNX Celu-12)."""
    return _unary(_act.Celu(alpha=number(alpha, "alpha")), x, threads, out)


def gelu(x: npt.ArrayLike, *, approximate: str = "none", threads: int | None = None, out: Array | None = None) -> Array:
    """``x * Phi(x)`` by erf, or by tanh with approximate="tanh" (ONNX Gelu-20)."""
    if not isinstance(approximate, str) or approximate not in ("none", "tanh"):
        raise InputError("unknown approximation", tensor="approximate", expected="'none' or 'tanh'", received=approximate)
    return _unary(_act.Gelu(approximate=approximate), x, threads, out)


def silu(x: npt.ArrayLike, *, threads: int | None = None, out: Array | None = None) -> Array:
    """``x * sigmoid(x)`` (ONNX Swish-24 with alpha 1)."""
    return _unary(_act.Swish(alpha=1.0), x, threads, out)


def mish(x: npt.ArrayLike, *, threads: int | None = None, out: Array | None = None) -> Array:
    """``x * tanh(softplus(x))`` (ONNX Mish-22)."""
    return _unary(_act.Mish(), x, threads, out)


def sigmoid(x: npt.ArrayLike, *, threads: int | None = None, out: Array | None = None) -> Array:
    """``1 / (1 + exp(-x))`` (ONNX Sigmoid-13)."""
    return _unary(_act.Sigmoid(), x, threads, out)


def hard_sigmoid(
    x: npt.ArrayLike, *, alpha: float = 0.2, beta: float = 0.5, threads: int | None = None, out: Array | None = None
) -> Array:
    """``max(0, min(1, alpha * x + beta))`` (ONNX HardSigmoid-22)."""
    return _unary(_act.HardSigmoid(alpha=number(alpha, "alpha"), beta=number(beta, "beta")), x, threads, out)


def hard_swish(x: npt.ArrayLike, *, threads: int | None = None, out: Array | None = None) -> Array:
    """``x * max(0, min(1, x / 6 + 0.5))`` (ONNX HardSwish-22)."""
    return _unary(_act.HardSwish(), x, threads, out)


def tanh(x: npt.ArrayLike, *, threads: int | None = None, out: Array | None = None) -> Array:
    """Hyperbolic tangent (ONNX Tanh-13)."""
    return _unary(_act.Tanh(), x, threads, out)


def softplus(x: npt.ArrayLike, *, threads: int | None = None, out: Array | None = None) -> Array:
    """``log(1 + exp(x))`` (ONNX Softplus-22)."""
    return _unary(_act.Softplus(), x, threads, out)


def softsign(x: npt.ArrayLike, *, threads: int | None = None, out: Array | None = None) -> Array:
    """``x / (1 + |x|)`` (ONNX Softsign-22)."""
    return _unary(_act.Softsign(), x, threads, out)


def clip(
    x: npt.ArrayLike, min: float | None = None, max: float | None = None, *, threads: int | None = None, out: Array | None = None
) -> Array:
    """``minimum(maximum(x, min), max)`` (ONNX Clip-13); a bound that is None does not bind; NaN stays NaN."""
    bounds = []
    for name, bound in (("min", min), ("max", max)):
        if getattr(bound, "ndim", 0):
            raise ShapeError("must be a number", tensor=name, expected="a scalar", received=np.shape(bound))  # type: ignore[arg-type]
        bounds.append(None if bound is None else np.asarray(number(bound, name), np.float32))
    return cast(Array, _run(_act.Clip(), [_array(x, "x"), *bounds], threads, out)[0])


def _axis(x: np.ndarray, axis: int) -> int:
    at = _int(axis, "axis")
    if not -x.ndim <= at < x.ndim:
        raise ShapeError("there is no such axis", tensor="axis", expected=f"{-x.ndim} to {x.ndim - 1}", received=axis)
    return at


def softmax(x: npt.ArrayLike, *, axis: int = -1, threads: int | None = None, out: Array | None = None) -> Array:
    """``exp(x) / sum(exp(x))`` along an axis (ONNX Softmax-13)."""
    xa = _array(x, "x")
    return _unary(_reduce.Softmax(axis=_axis(xa, axis)), xa, threads, out)


def log_softmax(x: npt.ArrayLike, *, axis: int = -1, threads: int | None = None, out: Array | None = None) -> Array:
    """``x - log(sum(exp(x)))`` along an axis (ONNX LogSoftmax-13)."""
    xa = _array(x, "x")
    return _unary(_reduce.LogSoftmax(axis=_axis(xa, axis)), xa, threads, out)


# ---------------------------------------------------------------- recurrent layers
_RECURRENT_INPUTS = ("x", "w", "r", "bias", "sequence_lens", "initial_h", "initial_c", "peepholes")


def _recurrent(
    operator: type[_rec.RNN | _rec.GRU | _rec.LSTM],
    arrays: Sequence[Any],
    hidden_size: int | None,
    threads: int | None,
    out: Any,
    **attributes: Any,
) -> list[Any]:
    """Run a recurrent layer; `arrays` are its inputs in ONNX's order, None where absent."""
    kind = operator.op_type
    given: list[np.ndarray | None] = []
    names = []
    for name, value in zip(_RECURRENT_INPUTS, arrays, strict=False):
        if name in ("x", "w", "r"):
            given.append(_array(value, name, 3))
        elif value is None:
            given.append(None)
        else:
            given.append(_lengths(value) if name == "sequence_lens" else _array(value, name))
        names.append("" if given[-1] is None else name)
    x, r = given[0], given[2]
    assert x is not None and r is not None
    kept = {key: value for key, value in attributes.items() if value is not None}
    for key in ("activations", "activation_alpha", "activation_beta"):
        if key in kept:
            kept[key] = list(kept[key])
    kept["hidden_size"] = _int(r.shape[2] if hidden_size is None else hidden_size, "hidden_size")
    try:
        op = operator.from_onnx(NodeRecord(kind, "", 22, kept, tuple(names), ()))
    except ModelError as error:
        raise InputError(error.message, operator=kind, expected=error.expected, received=error.received) from None
    except (TypeError, ValueError) as error:
        raise InputError(f"has an argument of the wrong kind ({error})", operator=kind) from None
    op.specs([None if a is None else TensorSpec.of(a) for a in given])
    return _run(op, given, threads, out, 1 + operator.states)


def _lengths(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise InputError("has the wrong dtype", tensor="sequence_lens", expected="int32", received=array.dtype)
    wide = np.clip(array, -(2**31), 2**31 - 1) if array.dtype != np.int32 else array
    return np.require(wide, np.int32, ("C", "ALIGNED")).reshape(array.shape)


def rnn(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    r: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    sequence_lens: npt.ArrayLike | None = None,
    initial_h: npt.ArrayLike | None = None,
    direction: str = "forward",
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    hidden_size: int | None = None,
    layout: int = 0,
    threads: int | None = None,
    out: Array | None = None,
) -> tuple[Array, Array]:
    """``h = f(x @ w.T + h @ r.T + bias)`` step by step (ONNX RNN-22). See `lstm`.

    Parameters
    ----------
    x : array_like of float32, (S, N, I)
    w, r : array_like of float32, (directions, H, I) and (directions, H, H)
    bias : array_like of float32, (directions, 2 * H), optional
        That of w, then that of r.
    sequence_lens, initial_h, direction, activations, activation_alpha, activation_beta, clip, hidden_size, layout, threads, out
        As for `lstm`; one function f, by default Tanh.

    Returns
    -------
    y : ndarray of float32, (S, directions, N, H)
    last_h : ndarray of float32, (directions, N, H)

    Raises
    ------
    InputError, ShapeError
    """
    y, h = _recurrent(
        _rec.RNN,
        (x, w, r, bias, sequence_lens, initial_h),
        hidden_size,
        threads,
        out,
        direction=direction,
        activations=activations,
        activation_alpha=activation_alpha,
        activation_beta=activation_beta,
        clip=clip,
        layout=layout,
    )
    return y, h


def gru(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    r: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    sequence_lens: npt.ArrayLike | None = None,
    initial_h: npt.ArrayLike | None = None,
    direction: str = "forward",
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    linear_before_reset: bool = False,
    hidden_size: int | None = None,
    layout: int = 0,
    threads: int | None = None,
    out: Array | None = None,
) -> tuple[Array, Array]:
    """A gated recurrent unit, step by step (ONNX GRU-22). See `lstm`.

    Parameters
    ----------
    x : array_like of float32, (S, N, I)
    w, r : array_like of float32, (directions, 3 * H, I) and (directions, 3 * H, H)
        Of the gates z, r and h.
    bias : array_like of float32, (directions, 6 * H), optional
        Those of w, then those of r.
    linear_before_reset : bool
        The reset gate multiplies the product of the state with r, as PyTorch has it, not the state.
    sequence_lens, initial_h, direction, activations, activation_alpha, activation_beta, clip, hidden_size, layout, threads, out
        As for `lstm`; functions f and g, by default Sigmoid and Tanh.

    Returns
    -------
    y : ndarray of float32, (S, directions, N, H)
    last_h : ndarray of float32, (directions, N, H)

    Raises
    ------
    InputError, ShapeError
    """
    y, h = _recurrent(
        _rec.GRU,
        (x, w, r, bias, sequence_lens, initial_h),
        hidden_size,
        threads,
        out,
        direction=direction,
        activations=activations,
        activation_alpha=activation_alpha,
        activation_beta=activation_beta,
        clip=clip,
        layout=layout,
        linear_before_reset=int(bool(linear_before_reset)),
    )
    return y, h


def lstm(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    r: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    sequence_lens: npt.ArrayLike | None = None,
    initial_h: npt.ArrayLike | None = None,
    initial_c: npt.ArrayLike | None = None,
    peepholes: npt.ArrayLike | None = None,
    direction: str = "forward",
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    input_forget: bool = False,
    hidden_size: int | None = None,
    layout: int = 0,
    threads: int | None = None,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Long short-term memory, step by step (ONNX LSTM-22).

    Parameters
    ----------
    x : array_like of float32, (S, N, I)
        S steps of N sequences; with ``layout=1`` (N, S, I).
    w, r : array_like of float32, (directions, 4 * H, I) and (directions, 4 * H, H)
        Of the gates i, o, f and c.
    bias : array_like of float32, (directions, 8 * H), optional
        Those of w, then those of r.
    sequence_lens : array_like of int, (N,), optional
        Steps of each sequence; y is zero behind them, and a reverse direction begins at the last of them.
    initial_h, initial_c : array_like of float32, (directions, N, H), optional
        With ``layout=1`` (N, directions, H); zeros when left out.
    peepholes : array_like of float32, (directions, 3 * H), optional
        Of the gates i, o and f.
    direction : {"forward", "reverse", "bidirectional"}
    activations : sequence of str, optional
        ONNX's names of f, g and h for each direction; by default Sigmoid, Tanh and Tanh.
    activation_alpha, activation_beta : sequence of float, optional
        In order, of the activations that have such a parameter.
    clip : float, optional
        Bounds what goes into the functions of the gates to -clip and clip.
    input_forget : bool
        The forget gate is one minus the input gate.
    hidden_size : int, optional
        H; as r has it when left out.
    layout : {0, 1}
    threads : int, optional
    out : ndarray, optional
        For y.

    Returns
    -------
    y : ndarray of float32, (S, directions, N, H)
        With ``layout=1`` (N, S, directions, H).
    last_h, last_c : ndarray of float32, the shape of initial_h

    Raises
    ------
    InputError, ShapeError
    """
    y, h, c = _recurrent(
        _rec.LSTM,
        (x, w, r, bias, sequence_lens, initial_h, initial_c, peepholes),
        hidden_size,
        threads,
        out,
        direction=direction,
        activations=activations,
        activation_alpha=activation_alpha,
        activation_beta=activation_beta,
        clip=clip,
        layout=layout,
        input_forget=int(bool(input_forget)),
    )
    return y, h, c
