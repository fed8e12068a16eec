"""How a quantised convolution in groups that stay within a block of channels is lowered, for the operators that have one."""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._kernels.pack import pack_bias, pack_depthwise
from ..layout import NO_HALO
from ..operator import Lowering, Operand
from ..packing import Copy, Empty
from ..window import Window
from .conv_choice import within_blocks
from .taps import Offsets, halo_for, tap_ranges, three

EXACT = 1 << 24
"""Integers whose size is below this are numbers of float32, whatever they are sums of."""


@dataclass(frozen=True)
class Added:
    """What is added to the results of a quantised operator before they are quantised for a second time.

    Attributes
    ----------
    index : int
        Which input it is, uint8.
    low, high : float
        Bounds of the first results, less their zero point.
    scale, r_scale : float
        What a step of them, and of the input, is in steps of the output.
    r_zero : int
        The zero point of the input.
    """

    index: int
    low: float
    high: float
    scale: float
    r_scale: float
    r_zero: int


def lower_depthwise(
    ctx: Lowering,
    window: Window,
    weights: np.ndarray,
    bias: np.ndarray | None,
    ratio: np.ndarray,
    *,
    groups: int,
    key: tuple[Hashable, ...],
    x_zero: int,
    y_zero: int = 0,
    low: float = 0,
    high: float = 255,
    table: np.ndarray | None = None,
    offset: np.ndarray | None = None,
    added: Added | None = None,
    y: Operand | None = None,
    dynamic: tuple[int, int] | None = None,
) -> bool:
    """Lower a node whose input 0 is uint8 (N, C, up to three spatial axes) and whose output 0 is uint8 or float32.

    Parameters
    ----------
    ctx : Lowering
    window : Window
    weights : ndarray of integers, (O, C / groups, taps...)
        Less their zero points.
    bias : ndarray of int32 (O,), optional
    ratio : ndarray of float32 (O,)
        What a unit of a sum is in steps of the output, or in its own numbers.
    groups : int
    key : tuple
        Tells the weights, the bias, the ratio and the zero points from those of other nodes: their names.
    x_zero, y_zero : int
    low, high : float
        Bounds of what is stored; of uint8 the zero point is in them.
    table : ndarray of uint8 (256,), optional
        What stands for each result of uint8.
    offset : ndarray of float32 (O,), optional
        Added to results of float32.
    added : Added, optional
    y : Operand, optional
        Where results go, planes in one group; output 0 otherwise.
    dynamic : tuple of int, optional
        Which inputs are the scale of x, by which the ratio is multiplied, and its zero point, where they are no constants.

    Returns
    -------
    bool
        False, and nothing is lowered, where groups leave a block of channels, or where sums of these products may not be exact in
        float32.
    """
    x = ctx.inputs[0]
    assert x is not None
    spatial = x.concrete[2:]
    o, per_group = weights.shape[:2]
    if not 1 <= len(spatial) <= 3 or not within_blocks(groups, per_group, o // groups, ctx.lanes):
        return False
    reach = np.abs(weights.astype(np.int64)).reshape(o, -1).sum(axis=1) * (max(x_zero, 255 - x_zero) if dynamic is None else 255)
    if reach.size and int(reach.max()) >= EXACT:
        return False
    given = np.zeros(o, np.int64) if bias is None else bias.astype(np.int64)
    late = bool(reach.size) and int((reach + np.abs(given)).max()) >= EXACT
    out, begins, _ = window.resolve(spatial)
    taps = [three(t, 0) for t in itertools.product(*tap_ranges(window, begins))]
    stride: Offsets = three(window.strides, 1)
    halo = halo_for(taps, three(out, 1), stride, three(spatial, 1))
    floats = ctx.outputs[0].dtype == np.float32

    def packed(what: str, values: np.ndarray | None, dtype: type) -> Operand:
        def build(empty: Empty) -> np.ndarray:
            array: np.ndarray = pack_bias(None if values is None else values.astype(dtype).view(np.float32), o, empty)
            return array.view(dtype)

        return ctx.pack((what, *key), build)

    def more() -> Operand | None:
        if floats:
            return None if offset is None else packed("qdepthwise offset", offset, np.float32)
        return None if table is None else ctx.pack(("qdepthwise table", *key), Copy(table))

    params: dict[str, Any] = {}
    if added is not None:
        params = {
            "first": (added.low, added.high),
            "scale": added.scale,
            "r_scale": added.r_scale,
            "r_zero": added.r_zero,
        }
    by, source, zero = packed("qdepthwise ratio", ratio, np.float32), None, []
    if dynamic is not None:
        scale, point = (ctx.plain(index) for index in dynamic)
        scaled = ctx.temp((-(-o // ctx.lanes) * ctx.lanes,))
        ctx.call("binary", [by, scale], [scaled], op="mul", activation=None, b_shape=())
        by, zero = scaled, [point]
        if halo != NO_HALO:
            source = ctx.temp_planes(x.concrete, x.dtype, halo=halo)
            ctx.call("surround", [ctx.planes(0, fill=0), point], [source])
    ctx.call(
        "qdepthwise",
        [
            ctx.planes(0, halo=halo, fill=x_zero) if source is None else source,
            ctx.pack(("qdepthwise", *key), lambda empty: pack_depthwise(weights.astype(np.float32), empty)),
            packed("qdepthwise bias", None if late else given, np.float32),
            packed("qdepthwise late bias", given, np.int32) if late else None,
            by,
            None if added is None else ctx.planes(added.index, fill=added.r_zero),
            more(),
            *zero,
        ],
        [ctx.out_planes() if y is None else y],
        taps=taps,
        stride=stride,
        per_group=per_group,
        x_zero=x_zero,
        y_zero=y_zero,
        low=low,
        high=high,
        **params,
    )
    return True
