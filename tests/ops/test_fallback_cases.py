"""Every attribute, optional input and output of the fallback's table against NumPy, written from ONNX's texts.

onnx.reference passes over what it does not know. So a case here gives each attribute of `CHECKED` a value that changes the
result, `test_every_entry_has_its_cases` holds the table against the cases, and `test_what_is_not_listed_is_refused` against
ONNX's schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cnnengine import load
from cnnengine.errors import CNNEngineError, UnsupportedOperatorError
from cnnengine.ops.fallback import CHECKED, Fallback
from cnnengine.spec import TensorSpec

RNG = np.random.default_rng(5)
F32, I64 = np.float32, np.int64


@dataclass(frozen=True)
class Case:
    op_type: str
    version: int
    inputs: tuple[Any, ...]
    want: tuple[Any, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    tolerance: float = 0.0

    def __str__(self) -> str:
        return f"{self.op_type}-{self.version}-{','.join(f'{k}={v}' for k, v in self.attributes.items())[:60]}"


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(F32)


# ------------------------------------------------------------------ Attention
def softmax(scores: np.ndarray) -> np.ndarray:
    """Along the last axis; a row of -inf alone gives zeros."""
    out = np.zeros_like(scores)
    for index in np.ndindex(scores.shape[:-1]):
        row = scores[index]
        if np.isneginf(row).all():
            continue
        e = np.exp(row - row.max())
        out[index] = e / e.sum()
    return out


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None = None,
    past: tuple[np.ndarray, np.ndarray] | None = None,
    lengths: np.ndarray | None = None,
    *,
    heads: tuple[int, int] | None = None,
    scale: float | None = None,
    causal: bool = False,
    softcap: float = 0.0,
    mode: int = 0,
    left: int = -1,
    right: int = -1,
) -> list[np.ndarray]:
    """Attention-25 by loops over batch, head, query and key, in float64."""
    flat = q.ndim == 3
    if flat:
        assert heads is not None
        q, k, v = (a.reshape(*a.shape[:2], n, -1).transpose(0, 2, 1, 3) for a, n in ((q, heads[0]), (k, heads[1]), (v, heads[1])))
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    before = 0
    if past is not None:
        before = past[0].shape[2]
        k, v = np.concatenate([past[0], k], 2), np.concatenate([past[1], v], 2)
    batch, nq, queries, size = q.shape
    keys, group = k.shape[2], nq // k.shape[1]
    stages = np.zeros((4, batch, nq, queries, keys))
    bias = np.zeros((batch, nq, queries, keys))
    if mask is not None:
        added = np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask.astype(np.float64)
        short = keys - added.shape[-1]
        added = np.pad(added, [(0, 0)] * (added.ndim - 1) + [(0, short)], constant_values=-np.inf)
        bias = bias + added
    factor = 1 / np.sqrt(size) if scale is None else scale
    for b in range(batch):
        offset = before if lengths is None else int(lengths[b]) - queries
        for h in range(nq):
            for i in range(queries):
                for j in range(keys):
                    if causal and j > i + offset:
                        bias[b, h, i, j] = -np.inf
                    if left >= 0 and j < i + offset - left:
                        bias[b, h, i, j] = -np.inf
                    if right >= 0 and j > i + offset + right:
                        bias[b, h, i, j] = -np.inf
                    if lengths is not None and j >= lengths[b]:
                        bias[b, h, i, j] = -np.inf
                    stages[0, b, h, i, j] = (q[b, h, i] * k[b, h // group, j]).sum() * factor
    stages[1] = softcap * np.tanh(stages[0] / softcap) if softcap > 0 else stages[0]
    stages[2] = stages[1] + bias
    stages[3] = softmax(stages[2])
    y = np.zeros((batch, nq, queries, v.shape[3]))
    for b, h in np.ndindex(batch, nq):
        y[b, h] = stages[3, b, h] @ v[b, h // group]
    if flat:
        y = y.transpose(0, 2, 1, 3).reshape(batch, queries, -1)
    return [a.astype(F32) for a in (y, k, v, stages[0 if mode == 1 and softcap <= 0 else mode])]


def attention_cases() -> list[Case]:
    q, k, v = normal(2, 4, 3, 6), normal(2, 2, 5, 6), normal(2, 2, 5, 7)
    flat = tuple(a.transpose(0, 2, 1, 3).reshape(2, a.shape[2], -1) for a in (q, k, v))
    past = normal(2, 2, 4, 6), normal(2, 2, 4, 7)
    allowed = RNG.random((3, 5)) < 0.6
    allowed[:, 0] = True
    allowed[1] = False
    lengths = np.array([4, 5], I64)
    made: list[tuple[int, tuple[Any, ...], dict[str, Any], dict[str, Any]]] = []
    for version in (23, 24, 25):
        made += [
            (version, (q, k, v), {}, {}),
            (version, (q, k, v), {"scale": 0.7, "softcap": 0.8, "is_causal": 0}, {"scale": 0.7, "softcap": 0.8, "outputs": 3}),
            (version, (q, k, v, normal(2, 4, 3, 5)), {"is_causal": 1}, {"causal": True}),
            (version, (q, k, v, allowed), {"is_causal": 1}, {"causal": True}),
            (version, (q, k, v, normal(4, 3, 5)), {}, {}),
            (version, (q, k, v, None, *past), {"is_causal": 1}, {"causal": True}),
            (version, (q, k, v, normal(2, 1, 3, 9), *past), {"softmax_precision": 11}, {}),
            (version, (q, k, v, allowed), {"softmax_precision": 1}, {}),
            (version, flat, {"q_num_heads": 4, "kv_num_heads": 2}, {"heads": (4, 2)}),
            *[
                (version, (q, k, v, allowed), {"qk_matmul_output_mode": mode, "softcap": 0.8}, {"mode": mode, "softcap": 0.8})
                for mode in range(1, 4)
            ],
            *[(version, (q, k, v, allowed), {"qk_matmul_output_mode": mode}, {"mode": mode}) for mode in range(4)],
        ]
        if version > 23:
            made += [
                (version, (q, k, v, None, None, None, lengths), {}, {}),
                (version, (q, k, v, allowed, None, None, lengths), {"is_causal": 1}, {"causal": True}),
                (version, (q, k, v, normal(3, 5), None, None, lengths), {"qk_matmul_output_mode": 2}, {"mode": 2}),
            ]
    for left, right in ((0, -1), (1, 0), (2, 1), (-1, 1)):
        sizes = {"left_window_size": left, "right_window_size": right}
        made += [
            (25, (q, k, v), sizes, {"left": left, "right": right}),
            (25, (q, k, v, None, *past), {**sizes, "is_causal": 1}, {"left": left, "right": right, "causal": True}),
            (25, (q, k, v, allowed, None, None, lengths), sizes, {"left": left, "right": right}),
        ]
    cases = []
    for version, inputs, attributes, how in made:
        given = [*inputs, *[None] * (7 - len(inputs))]
        outputs = how.pop("outputs", 4 if given[6] is None else 1)  # lengths and a cache exclude one another
        want = attention(*given[:4], None if given[4] is None else (given[4], given[5]), given[6], **how)
        cases.append(Case("Attention", version, inputs, tuple(want[:outputs]), attributes, tolerance=2e-5))
        if version == 25:
            cases.append(Case("Attention", version, inputs, tuple(want[:1]), attributes, tolerance=2e-5))
    return cases


# ----------------------------------------------- rows, positions, places in a cache
def rms_cases() -> list[Case]:
    x = normal(2, 3, 4, 5)
    cases = []
    for axis in (-1, 0, 2, -2, 3):
        for attributes in ({"axis": axis}, {"axis": axis, "epsilon": 0.5}, {"axis": axis, "stash_type": 1}):
            axes = tuple(range(axis % 4, 4))
            wide = x.astype(np.float64)
            rms = np.sqrt((wide**2).mean(axes, keepdims=True) + np.float64(F32(attributes.get("epsilon", 1e-5))))
            scale = normal(*x.shape[axis % 4 :])
            want = (wide / rms * scale).astype(F32)
            cases.append(Case("RMSNormalization", 23, (x, scale), (want,), attributes, tolerance=1e-5))
    return cases


def rotary_cases() -> list[Case]:
    cases = []
    for interleaved in (0, 1):
        for size in (8, 4):
            for given in (False, True):
                for flat in (False, True):
                    x = normal(2, 3, 5, 8)
                    ids = RNG.integers(0, 9, (2, 5)) if given else None
                    caches = [normal(*((9, size // 2) if given else (2, 5, size // 2))) for _ in range(2)]
                    want = x.astype(np.float64)
                    for b, h, t, i in np.ndindex(2, 3, 5, size // 2):
                        cos, sin = (float(c[ids[b, t], i] if ids is not None else c[b, t, i]) for c in caches)
                        one, two = (2 * i, 2 * i + 1) if interleaved else (i, i + size // 2)
                        a, c = float(x[b, h, t, one]), float(x[b, h, t, two])
                        want[b, h, t, one], want[b, h, t, two] = cos * a - sin * c, sin * a + cos * c
                    attributes = {"interleaved": interleaved, **({"rotary_embedding_dim": size} if size < 8 else {})}
                    if flat:
                        attributes["num_heads"] = 3
                        x, want = (np.ascontiguousarray(a.transpose(0, 2, 1, 3)).reshape(2, 5, 24) for a in (x, want))
                    inputs = (x, *caches, ids) if given else (x, *caches)
                    cases.append(Case("RotaryEmbedding", 23, inputs, (want.astype(F32),), attributes, tolerance=1e-6))
    return cases


def scatter_cases() -> list[Case]:
    cases = []
    for mode in ("linear", "circular"):
        for axis in (-2, 1, 2, -1):
            for given, dtype in ((False, F32), (True, F32), (True, np.float64), (True, np.int32), (False, I64)):
                past = normal(2, 6, 7, 8).astype(dtype)
                update = (10 * normal(*(3 if a == axis % 4 else n for a, n in enumerate(past.shape)))).astype(dtype)
                start = np.array([5, 1] if mode == "circular" else [3, 1], I64)
                want = past.copy()
                for index in np.ndindex(update.shape):
                    at = list(index)
                    at[axis % 4] += int(start[index[0]]) if given else 0
                    at[axis % 4] %= past.shape[axis % 4]
                    want[tuple(at)] = update[index]
                inputs = (past, update, start) if given else (past, update)
                cases.append(Case("TensorScatter", 24, inputs, (want,), {"mode": mode, "axis": axis}))
    return cases


def crop_cases() -> list[Case]:
    x = RNG.integers(0, 99, (5, 6, 7))
    cases = []
    for axes in (None, [0, 1, 2], [1], [-1, 0], [-2]):
        for start in (-3, -2, -1, 1, 2, 3):
            chosen = range(3) if axes is None else [a % 3 for a in axes]
            sizes = [x.shape[a] + start for a in chosen]
            want = np.zeros([dict(zip(chosen, sizes, strict=True)).get(a, n) for a, n in enumerate(x.shape)], x.dtype)
            for index in np.ndindex(want.shape):
                source = []
                for a, i in enumerate(index):
                    more = want.shape[a] - x.shape[a]
                    source.append(i - more // 2 if more >= 0 else i + (-more) // 2)
                if all(0 <= i < n for i, n in zip(source, x.shape, strict=True)):
                    want[index] = x[tuple(source)]
            attributes = {} if axes is None else {"axes": axes}
            for dtype in (F32, np.float64, np.int32, I64, np.uint8):
                cases.append(
                    Case("CenterCropPad", 18, (x.astype(dtype), np.array(sizes, I64)), (want.astype(dtype),), attributes)
                )
    return cases


# ------------------------------------------------------------------- signals
def mel_cases() -> list[Case]:
    cases = []
    settings = ((8, 32, 8192, 0.0, 4096.0), (5, 257, 16000, 80.0, 7600.0), (3, 64, 8000, 300.0, 3400.0))
    for bins, length, rate, low, high in settings:
        edges = [2595 * np.log10(1 + f / 700) for f in (low, high)]
        step = (edges[1] - edges[0]) / (bins + 2)
        hertz = [700 * (10 ** ((edges[0] + i * step) / 2595) - 1) for i in range(bins + 2)]
        places = [int((length + 1) * f // rate) for f in hertz]
        want = np.zeros((length // 2 + 1, bins))
        for i in range(bins):
            left, centre, right = places[i : i + 3]
            if centre == left:
                want[centre, i] = 1
            for j in range(left, centre + 1 if centre > left else left):
                want[j, i] = (j - left) / (centre - left)
            for j in range(centre, right):
                want[j, i] = (right - j) / (right - centre)
        inputs = (np.array(bins), np.array(length), np.array(rate), np.array(low, F32), np.array(high, F32))
        for code, dtype in ((None, F32), (1, F32), (11, np.float64), (10, np.float16), (6, np.int32), (7, I64)):
            attributes = {} if code is None else {"output_datatype": code}
            tolerance = 1e-3 if code == 10 else 1e-6
            cases.append(Case("MelWeightMatrix", 17, inputs, (want.astype(dtype),), attributes, tolerance=tolerance))
        cases.append(Case("MelWeightMatrix", 17, (*(a.astype(np.int32) for a in inputs[:3]), *inputs[3:]), (want.astype(F32),)))
    return cases


# ------------------------------------------------------------ matrices, sequences
def plain_cases() -> list[Case]:
    x = normal(4, 5, 6)
    cases = []
    for version in (11, 22):
        for dtype, tolerance in ((F32, 1e-4), (np.float64, 1e-12)):
            a = RNG.standard_normal((2, 3, 3)).astype(dtype)
            w = a.astype(np.float64)
            det = sum(
                w[..., 0, i] * (w[..., 1, (i + 1) % 3] * w[..., 2, (i + 2) % 3] - w[..., 1, (i + 2) % 3] * w[..., 2, (i + 1) % 3])
                for i in range(3)
            )
            cases.append(Case("Det", version, (a,), (np.asarray(det).astype(dtype),), tolerance=tolerance))
    for version in (9, 22):
        for k in (None, -4, -1, 0, 2, 5):
            for dtype in (F32, np.float64, np.int32, I64, np.bool_):
                for code, kind in ((None, dtype), (1, F32), (6, np.int32), (7, I64), (11, np.float64)):
                    want = np.zeros((3, 4), kind)
                    for i in range(3):
                        if 0 <= i + (k or 0) < 4:
                            want[i, i + (k or 0)] = 1
                    attributes = {**({} if k is None else {"k": k}), **({} if code is None else {"dtype": code})}
                    cases.append(Case("EyeLike", version, (np.ones((3, 4), dtype),), (want,), attributes))
    for exclusive in (None, 0, 1):
        for reverse in (None, 0, 1):
            for axis in (0, 1, -1, -2):
                for dtype in (F32, np.float64, np.int32, I64):
                    a = x if np.dtype(dtype).kind == "f" else RNG.integers(-3, 4, x.shape)
                    a = a.astype(dtype)
                    moved = np.moveaxis(a, axis, 0)
                    moved = moved[::-1] if reverse else moved
                    out = np.ones(moved.shape, np.float64)
                    for i in range(len(moved)):
                        for j in range(i if exclusive else i + 1):
                            out[i] *= moved[j]
                    out = np.moveaxis(out[::-1] if reverse else out, 0, axis).astype(dtype)
                    given = {"exclusive": exclusive, "reverse": reverse}
                    attributes = {k: v for k, v in given.items() if v is not None}
                    cases.append(Case("CumProd", 26, (a, np.array(axis, I64)), (out,), attributes, tolerance=1e-5))
    for version in (10, 28):
        for time, batch in ((None, None), (0, 1), (1, 0)):
            for dtype in (F32, np.float64, np.int32, I64, np.uint8):
                a = (x * 20).astype(dtype) if dtype != np.uint8 else RNG.integers(0, 255, x.shape).astype(dtype)
                at, ab = (0, 1) if time is None else (time, batch)
                lengths = RNG.integers(0, a.shape[at] + 1, a.shape[ab])
                want = a.copy()
                for b, n in enumerate(lengths):
                    for t in range(n):
                        index = (t, b) if at == 0 else (b, t)
                        want[index] = a[(n - 1 - t, b) if at == 0 else (b, n - 1 - t)]
                attributes = {} if time is None else {"time_axis": time, "batch_axis": batch}
                cases.append(Case("ReverseSequence", version, (a, lengths), (want,), attributes))
    for version in (9, 11, 28):
        for axis in (None, 0, 1, *((-1,) if version > 9 else ())):
            for dtype in (F32, np.float64, np.int32, I64, np.uint8, np.bool_):
                a = (x > 0) if dtype == np.bool_ else RNG.integers(0, 99, x.shape).astype(dtype)
                condition = RNG.random(3 if axis is not None else 50) < 0.5
                condition[1] = True
                flat = a.reshape(-1) if axis is None else a
                want = np.stack([np.take(flat, i, axis or 0) for i, c in enumerate(condition) if c], axis or 0)
                cases.append(Case("Compress", version, (a, condition), (want,), {} if axis is None else {"axis": axis}))
    return cases


def unique_cases() -> list[Case]:
    cases = []
    for version in (11, 28):
        for dtype in (F32, np.float64, np.int32, I64):
            for axis in (None, 0, 1, -1):
                for ordered in (None, 0, 1):
                    if axis is not None and ordered == 0:
                        continue
                    a = RNG.integers(0, 3, 12 if ordered == 0 else (6, 2)).astype(dtype)
                    items = a.reshape(-1, 1) if axis is None else np.moveaxis(a, axis, 0)
                    rows = [tuple(r.reshape(-1).tolist()) for r in items]
                    keys = list(dict.fromkeys(rows))
                    if ordered != 0:
                        keys.sort()
                    first = [rows.index(k) for k in keys]
                    y = a.reshape(-1)[first] if axis is None else np.take(a, first, axis)
                    want = (y, np.array(first), np.array([keys.index(r) for r in rows]), np.array([rows.count(k) for k in keys]))
                    given = {"axis": axis, "sorted": ordered}
                    attributes = {k: v for k, v in given.items() if v is not None}
                    cases += [Case("Unique", version, (a,), want[:n], attributes) for n in ((4,) if ordered == 0 else (4, 1))]
    return cases


def col2im_cases() -> list[Case]:
    cases = []
    for pads, strides, dilations in (
        (None, None, None),
        ([1, 0, 0, 2], None, None),
        (None, [2, 1], None),
        (None, None, [1, 2]),
        ([1, 1, 1, 1], [2, 3], [2, 1]),
    ):
        image, block, p, s, d = (6, 7), (2, 3), pads or [0] * 4, strides or [1, 1], dilations or [1, 1]
        places = [(image[i] + p[i] + p[i + 2] - d[i] * (block[i] - 1) - 1) // s[i] + 1 for i in range(2)]
        x = normal(2, 3 * 6, places[0] * places[1])
        want = np.zeros((2, 3, 6, 7))
        for n, c, a, b, i, j in np.ndindex(2, 3, 2, 3, *places):
            row, col = i * s[0] + a * d[0] - p[0], j * s[1] + b * d[1] - p[1]
            if 0 <= row < 6 and 0 <= col < 7:
                want[n, c, row, col] += x[n, (c * 2 + a) * 3 + b, i * places[1] + j]
        given = {"pads": pads, "strides": strides, "dilations": dilations}
        attributes = {k: v for k, v in given.items() if v is not None}
        inputs = (x, np.array(image), np.array(block))
        cases.append(Case("Col2Im", 18, inputs, (want.astype(F32),), attributes, tolerance=1e-5))
    return cases


# ------------------------------------------------------------------ ai.onnx.ml
def grams_cases() -> list[Case]:
    cases = []
    texts = np.array(["a", "b", "c", "d"], object)
    grams = [(1,), (3,), (0, 1), (1, 1), (2, 0), (1, 2, 3)]
    numbers = [i for g in grams for i in g]
    for dtype in (np.int32, I64, object):
        for rows in (None, 3):
            for mode in ("TF", "IDF", "TFIDF"):
                for low, high, skips in ((1, 1, 0), (1, 2, 0), (2, 2, 1), (1, 3, 2), (2, 3, 0), (3, 3, 1)):
                    data = RNG.integers(0, 4, (rows or 1, 9))
                    weights = [0.5, 1.5, 2.0, 3.0, 0.25, 4.0]
                    order = list(range(6)) if mode != "TF" else [4, 0, 5, 1, 3, 2]
                    want = np.zeros((rows or 1, 6))
                    for r, row in enumerate(data.tolist()):
                        for g, gram in enumerate(grams):
                            if not low <= len(gram) <= high:
                                continue
                            for skip in range(skips + 1):
                                if len(gram) == 1 and skip:
                                    continue  # one word has nothing to skip
                                for start in range(len(row) - (len(gram) - 1) * (skip + 1)):
                                    found = tuple(row[start + i * (skip + 1)] for i in range(len(gram)))
                                    want[r, order[g]] += found == gram
                    if mode == "IDF":
                        want = np.minimum(want, 1)
                    if mode != "TF":
                        want = want * weights
                    attributes: dict[str, Any] = {
                        "mode": mode,
                        "min_gram_length": low,
                        "max_gram_length": high,
                        "max_skip_count": skips,
                        "ngram_counts": [0, 2, 8],
                        "ngram_indexes": order,
                    }
                    if mode != "TF":
                        attributes["weights"] = weights
                    if dtype is object:
                        attributes["pool_strings"] = texts[numbers].tolist()
                    else:
                        attributes["pool_int64s"] = numbers
                    x = texts[data] if dtype is object else data.astype(dtype)
                    if rows is None:
                        x, want = x[0], want[0]
                    cases.append(Case("TfIdfVectorizer", 9, (x,), (want.astype(F32),), attributes))
    return cases


ML = "ai.onnx.ml"


def label_cases() -> list[Case]:
    cases = []
    kinds = {"floats": (F32, [0.5, 2.0, 0.5]), "int64s": (I64, [3, -1, 3]), "strings": (object, ["x", "y", "x"])}
    defaults = {
        "floats": ("default_float", 7.5, -0.0),
        "int64s": ("default_int64", 9, -1),
        "strings": ("default_string", "?", "_Unused"),
    }
    outside = {"floats": 9.0, "int64s": 9, "strings": "z"}
    for key, (kind, keys) in kinds.items():
        for value, (made, values) in kinds.items():
            x = np.array([keys[1], outside[key], keys[0]], kind)
            results = values[::-1]
            for given in (False, True):
                name, chosen, usual = defaults[value]
                default = chosen if given else usual
                table = dict(zip(keys, results, strict=True))
                want = np.array([table.get(v, default) for v in x.tolist()], made)
                attributes = {f"keys_{key}": keys, f"values_{value}": results, **({name: chosen} if given else {})}
                cases.append(Case("LabelEncoder", 4, (x,), (want,), attributes, ML))
    for dtype in (F32, I64):
        keys, values = np.array([1, 2, 5], dtype), np.array([4, 6, 8], np.int16)
        want = np.array([6, 3, 8], np.int16)
        attributes = {"keys_tensor": keys, "values_tensor": values, "default_tensor": np.array([3], np.int16)}
        cases.append(Case("LabelEncoder", 4, (np.array([2, 9, 5], dtype),), (want,), attributes, ML))
    return cases


def tree_cases() -> list[Case]:
    """Two trees of three nodes each by hand; the modes of the roots vary."""
    cases = []
    x = np.array([[0.5, 1.0], [1.0, 3.0], [2.0, 1.0], [np.nan, 1.0], [3.0, np.nan]])
    compare = {
        0: lambda a, b: a <= b,
        1: lambda a, b: a < b,
        2: lambda a, b: a >= b,
        3: lambda a, b: a > b,
        4: lambda a, b: a == b,
        5: lambda a, b: a != b and a == a,
        6: lambda a, b: a in (1.0, 3.0),
    }
    for dtype in (F32, np.float64):
        for mode in range(7):
            for aggregate in (None, 0, 1, 2, 3):
                for missing in (None, [1, 0, 1, 0], [0, 1, 0, 1]):
                    if mode == 5 and missing is None:
                        continue
                    if mode == 5 and missing == [0, 1, 0, 1]:
                        continue  # whether NaN differs from a threshold is not said
                    # nodes 0, 1: the first tree, 0's false branch is 1; nodes 2, 3: the second
                    modes = [mode, 0, mode, 3]
                    splits = [1.0, 2.0, 1.0, 0.75]
                    features = [0, 1, 1, 0]
                    attributes: dict[str, Any] = {
                        "n_targets": 2 if missing is None else 3,
                        "post_transform": 0,
                        "tree_roots": [0, 2],
                        "nodes_modes": np.array(modes, np.uint8),
                        "nodes_splits": np.array([np.nan if m == 6 else v for m, v in zip(modes, splits, strict=True)], dtype),
                        "nodes_featureids": features,
                        "nodes_truenodeids": [0, 1, 3, 4],
                        "nodes_trueleafs": [1, 1, 1, 1],
                        "nodes_falsenodeids": [1, 2, 3, 5],
                        "nodes_falseleafs": [0, 1, 0, 1],
                        "leaf_targetids": [0, 1, 0, 1, 0, 1],
                        "leaf_weights": np.array([1, 2, 4, 8, 16, 32], dtype),
                    }
                    if mode == 6:
                        attributes["membership_values"] = np.array([1, 3, np.nan, 1, 3, np.nan], dtype)
                    if aggregate is not None:
                        attributes["aggregate_function"] = aggregate
                    if missing is not None:
                        attributes["nodes_missing_value_tracks_true"] = missing
                        if dtype is F32:  # ONNX's inference takes no other
                            attributes["nodes_hitrates"] = np.ones(4, F32)
                    want = np.zeros((len(x), attributes["n_targets"]))
                    touched = np.zeros(want.shape, bool)
                    for r, row in enumerate(x):
                        reached: list[list[float]] = [[], []]
                        for root in (0, 2):
                            node, leaf = root, -1
                            while leaf < 0:
                                value = row[features[node]]
                                held = bool(missing and missing[node])
                                if not np.isnan(value):
                                    held = compare[modes[node]](value, splits[node])
                                after = attributes["nodes_truenodeids" if held else "nodes_falsenodeids"][node]
                                if attributes["nodes_trueleafs" if held else "nodes_falseleafs"][node]:
                                    leaf = after
                                else:
                                    node = after
                            reached[attributes["leaf_targetids"][leaf]].append(float(2**leaf))
                        for target, found in enumerate(reached):
                            touched[r, target] = bool(found)
                            how = 1 if aggregate is None else aggregate
                            total = {0: sum(found) / 2, 1: sum(found), 2: min(found, default=0.0), 3: max(found, default=0.0)}
                            want[r, target] = total[how]
                    if aggregate in (2, 3):  # what no leaf reaches is not said
                        want = np.where(touched, want, np.nan)
                    cases.append(Case("TreeEnsemble", 5, (x.astype(dtype),), (want.astype(dtype),), attributes, ML, 1e-6))
    return cases


def small_ml_cases() -> list[Case]:
    cases = []
    for dtype in (F32, np.float64, np.int32, I64):
        x = (normal(3, 4) * 3).astype(dtype)
        for threshold in (None, 0.5, -1.25):
            want = np.array([[1 if v > (threshold or 0.0) else 0 for v in row] for row in x.tolist()], dtype)
            cases.append(Case("Binarizer", 1, (x,), (want,), {} if threshold is None else {"threshold": threshold}, ML))
    for dtype in (F32, np.float64, np.int32, I64, object):
        x = np.arange(12).reshape(3, 4).astype(dtype)
        if dtype is object:
            x = np.array([[f"t{v}" for v in row] for row in x.tolist()], object)
        for places in ([2], [3, 0, 0]):
            want = np.stack([x[:, p] for p in places], 1)
            cases.append(Case("ArrayFeatureExtractor", 1, (x, np.array(places)), (want,), {}, ML))
    return cases


# --------------------------------------------------------------------- training
def training_cases() -> list[Case]:
    domain, cases = "ai.onnx.preview.training", []
    for step in (0, 1, 5):
        for count in (1, 2):
            r, t = np.array(0.1, F32), np.array(step, I64)
            x, g, v, h = ([normal(3, 2) for _ in range(count)] for _ in range(4))
            h = [a**2 for a in h]
            for extra in ({}, {"norm_coefficient": 0.3}, {"decay_factor": 0.2, "epsilon": 0.01}):
                lr = 0.1 / (1 + step * extra.get("decay_factor", 0.0))
                grown = [a.astype(np.float64) * extra.get("norm_coefficient", 0.0) + b for a, b in zip(x, g, strict=True)]
                sums = [a + b**2 for a, b in zip(h, grown, strict=True)]
                eps = extra.get("epsilon", 1e-6)
                moved = [a - lr * b / (np.sqrt(c) + eps) for a, b, c in zip(x, grown, sums, strict=True)]
                want = tuple(a.astype(F32) for a in (*moved, *sums))
                cases.append(Case("Adagrad", 1, (r, t, *x, *g, *h), want, extra, domain, 1e-5))
            norms = {"norm_coefficient": 0.3, "norm_coefficient_post": 0.1}
            for extra in ({}, {"alpha": 0.7, "beta": 0.8, "epsilon": 0.01}, norms):
                a, b = extra.get("alpha", 0.9), extra.get("beta", 0.999)
                lr = 0.1 * np.sqrt(1 - b**step) / (1 - a**step) if step else 0.1
                grown = [p.astype(np.float64) * extra.get("norm_coefficient", 0.0) + q for p, q in zip(x, g, strict=True)]
                first = [a * p + (1 - a) * q for p, q in zip(v, grown, strict=True)]
                second = [b * p + (1 - b) * q**2 for p, q in zip(h, grown, strict=True)]
                eps = extra.get("epsilon", 1e-6)
                moved = [
                    (1 - extra.get("norm_coefficient_post", 0.0)) * (p - lr * q / (np.sqrt(s) + eps))
                    for p, q, s in zip(x, first, second, strict=True)
                ]
                want = tuple(p.astype(F32) for p in (*moved, *first, *second))
                cases.append(Case("Adam", 1, (r, t, *x, *g, *v, *h), want, extra, domain, 2e-4))
            for mode in ("standard", "nesterov"):
                for norm, a, b in ((0.0, 0.9, 1.0), (0.2, 0.5, 0.3)):
                    grown = [p.astype(np.float64) * norm + q for p, q in zip(x, g, strict=True)]
                    velocity = [a * p + (b if step else 1) * q for p, q in zip(v, grown, strict=True)]
                    if mode == "standard":
                        moved = [p - 0.1 * q for p, q in zip(x, velocity, strict=True)]
                    else:
                        moved = [p - 0.1 * (q + a * s) for p, q, s in zip(x, grown, velocity, strict=True)]
                    want = tuple(p.astype(F32) for p in (*moved, *velocity))
                    extra = {"mode": mode, "norm_coefficient": norm, "alpha": a, "beta": b}
                    cases.append(Case("Momentum", 1, (r, t, *x, *g, *v), want, extra, domain, 1e-5))
    return cases


CASES: list[Case] = [
    case
    for made in (
        attention_cases,
        rms_cases,
        rotary_cases,
        scatter_cases,
        crop_cases,
        mel_cases,
        plain_cases,
        unique_cases,
        col2im_cases,
        grams_cases,
        label_cases,
        tree_cases,
        small_ml_cases,
        training_cases,
    )
    for case in made()
]
OPERATORS = sorted({(c.domain, c.op_type) for c in CASES} & set(CHECKED))
CLASSES = sorted({c.op_type for c in CASES if (c.domain, c.op_type) not in CHECKED})


def proto(case: Case) -> onnx.NodeProto:
    attributes = {k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in case.attributes.items()}
    return helper.make_node(
        case.op_type,
        ["" if x is None else f"i{i}" for i, x in enumerate(case.inputs)],
        [f"o{i}" for i in range(len(case.want))],
        domain=case.domain,
        **attributes,
    )


def values(case: Case) -> dict[str, Any]:
    """Attributes as the importer has them."""
    return {a.name: decoded(helper.get_attribute_value(a)) for a in proto(case).attribute}


def decoded(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode()
    return [decoded(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("domain", "op_type"), OPERATORS)
def test_against_numpy(domain: str, op_type: str) -> None:
    for case in CASES:
        if (case.domain, case.op_type) != (domain, op_type):
            continue
        assert CHECKED[domain, op_type].refusal(case.version, values(case), len(case.inputs), len(case.want)) is None, str(case)
        op = Fallback.of(proto(case), case.version)
        specs = op.specs([None if x is None else TensorSpec.of(x) for x in case.inputs])
        got = op.evaluate(*case.inputs)
        for value, spec, want in zip(got, specs, case.want, strict=True):
            assert value.dtype == want.dtype == spec.dtype, str(case)
            assert value.shape == want.shape, str(case)
            if want.dtype == object:
                assert value.tolist() == want.tolist(), str(case)
                continue
            if op_type == "TreeEnsemble":  # NaN stands for what the specification leaves open
                value = np.where(np.isnan(want), np.nan, value)
            np.testing.assert_allclose(value, want, rtol=case.tolerance, atol=case.tolerance, err_msg=str(case))


@pytest.mark.parametrize("op_type", CLASSES)
def test_classes_against_numpy(op_type: str) -> None:
    """What has a class of its own, and left the table by it, as a model of one node."""
    for case in (c for c in CASES if c.op_type == op_type):
        node = proto(case)
        inputs = [
            helper.make_tensor_value_info(f"i{i}", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for i, x in enumerate(case.inputs)
        ]
        graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name=n) for n in node.output])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.version)], ir_version=10)
        got = load(made.SerializeToString()).run(None, {f"i{i}": x for i, x in enumerate(case.inputs)})
        for value, want in zip(got, case.want, strict=True):
            assert (value.dtype, value.shape) == (want.dtype, want.shape), str(case)
            np.testing.assert_allclose(value, want, rtol=case.tolerance, atol=case.tolerance, err_msg=str(case))


def test_every_entry_has_its_cases() -> None:
    """Versions, attributes with two values (one may be its absence), allowed values, inputs, outputs and types."""
    missing = []
    for (domain, op_type), checked in CHECKED.items():
        own = [c for c in CASES if (c.domain, c.op_type) == (domain, op_type)]
        missing += [f"{op_type}: version {v}" for v in checked.versions if not any(c.version == v for c in own)]
        for name, allowed in checked.attributes.items():
            seen = {repr(c.attributes.get(name)) for c in own}
            required = onnx.defs.get_schema(op_type, max(checked.versions), domain).attributes[name].required
            if seen == {"None"} or (len(seen) < 2 and not required and allowed is None):
                missing.append(f"{op_type}: {name}")
            missing += [f"{op_type}: {name} = {v}" for v in allowed or () if repr(v) not in seen]
        if checked.inputs < 100:
            for i in range(checked.inputs):
                if not any(len(c.inputs) > i and c.inputs[i] is not None for c in own):
                    missing.append(f"{op_type}: input {i}")
            if max(len(c.want) for c in own) != checked.outputs:
                missing.append(f"{op_type}: outputs")
        seen_types = {c.inputs[0].dtype.name for c in own}
        missing += [f"{op_type}: {t}" for t in checked.dtypes.split() if t not in seen_types]
    assert missing == []


def model(op_type: str, domain: str, version: int, attributes: Mapping[str, Any], inputs: int = 1) -> onnx.ModelProto:
    node = helper.make_node(op_type, [f"x{i}" for i in range(inputs)], ["y"], name="here", domain=domain, **attributes)
    values = [onnx.ValueInfoProto(name=f"x{i}") for i in range(inputs)]
    for value in values:
        value.type.tensor_type.elem_type = 1
    graph = helper.make_graph([node], "g", values, [onnx.ValueInfoProto(name="y")])
    imports = [helper.make_opsetid("", 21)] if domain else []
    return helper.make_model(graph, opset_imports=[*imports, helper.make_opsetid(domain, version)], ir_version=10)


def test_what_is_not_listed_is_refused() -> None:
    """Each attribute of ONNX's schemas that the table lacks, and each value that it lacks, where the values are few."""
    refused = 0
    for (domain, op_type), checked in CHECKED.items():
        for version in checked.versions:
            schema = onnx.defs.get_schema(op_type, version, domain)
            for name in schema.attributes:
                if name not in checked.attributes:
                    reason = checked.refusal(version, {name: 1}, 1, 1)
                    assert reason is not None, (op_type, name)
                    refused += 1
        for name, allowed in checked.attributes.items():
            if allowed is not None:
                assert checked.refusal(checked.versions[0], {name: 99}, 1, 1) is not None, (op_type, name)
                refused += 1
        if checked.inputs < 100:
            assert checked.refusal(checked.versions[0], {}, checked.inputs + 1, 1) is not None
            assert checked.refusal(checked.versions[0], {}, 1, checked.outputs + 1) is not None
    assert refused >= 10


@pytest.mark.parametrize(
    ("op_type", "domain", "version", "attributes", "match"),
    [
        ("TreeEnsemble", ML, 5, {"post_transform": 1}, "post_transform"),
        ("TfIdfVectorizer", "", 9, {"ngram_indexes": [1, 0], "weights": [1.0, 2.0], "mode": "IDF"}, "weights"),
        ("TfIdfVectorizer", "", 9, {"ngram_indexes": [0, 1], "mode": "TFIDF"}, "without weights"),
        ("LabelEncoder", ML, 4, {"keys_floats": [float("nan")], "values_floats": [1.0]}, "NaN"),
    ],
)
def test_refused_attributes_are_named(op_type: str, domain: str, version: int, attributes: dict[str, Any], match: str) -> None:
    schema = onnx.defs.get_schema(op_type, version, domain)
    for name, a in schema.attributes.items():  # what is required, whatever it holds
        if a.required and name not in attributes:
            fill = {"INTS": [0], "INT": 1, "STRING": "TF", "TENSOR": numpy_helper.from_array(np.zeros(1, F32)), "FLOAT": 0.0}
            attributes[name] = fill[str(a.type).rsplit(".", 1)[-1]]
    with pytest.raises(UnsupportedOperatorError, match=rf"here.*{match}"):
        load(model(op_type, domain, version, attributes, schema.min_input))


def test_refused_members_of_zero() -> None:
    checked = CHECKED[ML, "TreeEnsemble"]
    assert checked.refusal(5, {"membership_values": np.array([1, 0, np.nan])}, 1, 1) is not None
    assert checked.refusal(5, {"membership_values": np.array([1, np.nan])}, 1, 1) is None


def test_other_element_types_are_refused() -> None:
    """A type that was not checked is refused by the inference, before onnx.reference could compute in it."""
    crop = Fallback.of(helper.make_node("CenterCropPad", ["x", "shape"], ["y"]), 18)
    with pytest.raises(UnsupportedOperatorError, match=r"CenterCropPad.*not checked for this element type.*float16"):
        crop.specs([TensorSpec(np.dtype(np.float16), (2,)), TensorSpec.of(np.array([1]))])
    for (_, op_type), checked in CHECKED.items():
        own = [c for c in CASES if c.op_type == op_type]
        op = Fallback.of(proto(own[0]), own[0].version)
        specs = [None if x is None else TensorSpec.of(x) for x in own[0].inputs]
        assert "float16" not in checked.dtypes
        specs[0] = TensorSpec(np.dtype(np.float16), own[0].inputs[0].shape)
        with pytest.raises(CNNEngineError, match=r"not checked for this element type|do not fit"):
            op.specs(specs)
