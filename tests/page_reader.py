"""Reads a page of `cnnengine view` as a browser does, and computes its arithmetic again from what the page holds."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from html.parser import HTMLParser
from typing import Any

import numpy as np


class _Elements(HTMLParser):
    """Elements of a page in order, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.title = ""
        self._open: tuple[str, dict[str, str | None]] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag, dict(attrs)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open and self._open[0] == "script":
            self.scripts[-1] = self.scripts[-1][0], self.scripts[-1][1] + data
        elif self._open and self._open[0] == "title":
            self.title += data


class MissingError(Exception):
    """The page does not hold a number."""


class Read:
    """A page, taken apart."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.elements = _Elements(text)
        found = {attrs.get("id"): body for attrs, body in self.elements.scripts}
        self.data = json.loads(found["data"])
        self._chunks = {int(k[1:]): v for k, v in found.items() if k and re.fullmatch(r"c\d+", k)}
        self.layers = self.data["layers"]
        self.tensors = self.data["tensors"]
        self._whole: dict[int, np.ndarray] = {}
        self._boxes: dict[int, list[tuple[list[int], np.ndarray]]] = {}
        for layer in self.layers:
            if "pc" in layer:
                sizes = [math.prod(n) for _, _, n in layer["boxes"]]
                values = self.floats(layer["pc"], sum(sizes))
                for (t, lo, n), part in zip(layer["boxes"], np.split(values, np.cumsum(sizes)[:-1]), strict=True):
                    self._boxes.setdefault(t, []).append((lo, part.reshape(n)))

    def bytes_of(self, chunk: int) -> bytes:
        return zlib.decompress(base64.b64decode(self._chunks[chunk], validate=True))

    def floats(self, chunk: int, count: int) -> np.ndarray:
        raw = np.frombuffer(self.bytes_of(chunk), np.uint8)
        size = len(raw) // count
        assert size in (4, 8) and size * count == len(raw)
        return np.ascontiguousarray(raw.reshape(size, count).T).view(f"<f{size}").reshape(-1)

    def shape(self, t: int) -> list[int]:
        return self.tensors[t][1]

    def whole(self, t: int) -> np.ndarray | None:
        _, shape, chunk = self.tensors[t]
        if chunk < 0:
            return None
        if t not in self._whole:
            self._whole[t] = self.floats(chunk, math.prod(shape)).reshape(shape)
        return self._whole[t]

    def value(self, t: int, index: Any) -> float:
        array = self.whole(t)
        if array is not None:
            return float(array[tuple(index)])
        for lo, part in self._boxes.get(t, []):
            at = [i - a for i, a in zip(index, lo, strict=True)]
            if all(0 <= i < n for i, n in zip(at, part.shape, strict=True)):
                return float(part[tuple(at)])
        raise MissingError(self.tensors[t][0])

    def points(self, i: int, count: int = 3) -> list[list[int]]:
        """Elements of a layer that the page can compute."""
        layer = self.layers[i]
        if "rule" not in layer:
            return []
        found = list(layer.get("points", []))[:count]
        shape = self.shape(layer["t"])
        if len(found) < count and all(t < 0 or self.whole(t) is not None for t in (layer["t"], *layer["rule"]["r"])):
            rng = np.random.default_rng(i)
            found += [[int(rng.integers(n)) for n in shape] for _ in range(count)]
        return found

    # ------------------------------------------------------------ arithmetic
    def compute(self, i: int, index: list[int]) -> tuple[float, float]:
        """What an element must be, and the magnitude that rounding is measured by."""
        layer = self.layers[i]
        rule = layer["rule"]
        terms = _TERMS.get(rule["k"])
        if terms is not None:
            found = terms(self, rule, layer, index)
            return found if isinstance(found, tuple) else (found, abs(found))
        source = _moved(self, rule, layer, index)
        value = float(rule["v"]) if source is None else self.value(*source)
        return value, abs(value)


def _window(rule: Any, index: list[int], x: list[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Taps of a window that lie inside, with their places."""
    found = []
    for k in np.ndindex(*rule["n"]):
        at = tuple(i * s - b + j * d for i, j, s, d, b in zip(index[2:], k, rule["s"], rule["d"], rule["b"], strict=True))
        if all(0 <= a < n for a, n in zip(at, x[2:], strict=True)):
            found.append((k, at))
    return found


def _summed(products: list[float], bias: float = 0.0) -> tuple[float, float]:
    return math.fsum(products) + bias, math.fsum(map(abs, products)) + abs(bias)


def _conv(p: Read, rule: Any, layer: Any, index: list[int]) -> tuple[float, float]:
    x, w = p.shape(rule["r"][0]), p.shape(rule["r"][1])
    n, m = index[:2]
    group = m // (w[0] // rule["g"])
    products = [
        p.value(rule["r"][0], (n, group * w[1] + c, *at)) * p.value(rule["r"][1], (m, c, *k))
        for c in range(w[1])
        for k, at in _window(rule, index, x)
    ]
    return _summed(products, p.value(rule["r"][2], [m]) if rule["r"][2] >= 0 else 0.0)


def _convt(p: Read, rule: Any, layer: Any, index: list[int]) -> tuple[float, float]:
    x, w = p.shape(rule["r"][0]), p.shape(rule["r"][1])
    per, group = x[1] // rule["g"], index[1] // w[1]
    products = []
    for k in np.ndindex(*w[2:]):
        steps = [i + b - j * d for i, b, j, d in zip(index[2:], rule["b"], k, rule["d"], strict=True)]
        at = [v // s for v, s in zip(steps, rule["s"], strict=True)]
        if all(v % s == 0 and 0 <= a < e for v, s, a, e in zip(steps, rule["s"], at, x[2:], strict=True)):
            for c in range(group * per, (group + 1) * per):
                products.append(p.value(rule["r"][0], (index[0], c, *at)) * p.value(rule["r"][1], (c, index[1] % w[1], *k)))
    return _summed(products, p.value(rule["r"][2], [index[1]]) if rule["r"][2] >= 0 else 0.0)


def _dense(p: Read, rule: Any, layer: Any, index: list[int]) -> tuple[float, float]:
    a, b = p.shape(rule["r"][0]), p.shape(rule["r"][1])

    def before(shape: list[int]) -> list[int]:
        lead = index[:-2]
        return [0 if n == 1 else i for n, i in zip(shape[:-2], lead[len(lead) - len(shape) + 2 :], strict=True)]

    products = []
    for k in range(a[-2] if rule["ta"] else a[-1]):
        left = [k, index[-2]] if rule["ta"] else [index[-2], k]
        right = [index[-1], k] if rule["tb"] else [k, index[-1]]
        products.append(rule["alpha"] * p.value(rule["r"][0], before(a) + left) * p.value(rule["r"][1], before(b) + right))
    bias = 0.0
    if rule["r"][2] >= 0:
        c = p.shape(rule["r"][2])
        bias = rule["beta"] * p.value(
            rule["r"][2], [0 if n == 1 else i for n, i in zip(c, index[len(index) - len(c) :], strict=True)]
        )
    return _summed(products, bias)


def _pooled(f: str, values: list[float], divisor: float, p: float = 2.0) -> tuple[float, float]:
    size = math.fsum(map(abs, values))
    if f in ("max", "min"):
        return (max if f == "max" else min)(values), 0.0
    if f in ("average", "avg", "mean"):
        return math.fsum(values) / divisor, size / divisor
    if f == "lp":
        return math.fsum(abs(v) ** p for v in values) ** (1 / p), size
    if f == "l1":
        return size, size
    if f == "sumsquare":
        return math.fsum(v * v for v in values), math.fsum(v * v for v in values)
    assert f == "sum"
    return math.fsum(values), size


def _pool(p: Read, rule: Any, layer: Any, index: list[int]) -> tuple[float, float]:
    x = p.shape(rule["r"][0])
    values = [p.value(rule["r"][0], (*index[:2], *at)) for _, at in _window(rule, index, x)]
    divisor = float(len(values))
    if rule.get("c"):
        divisor = 1.0
        for i, n, s, d, b, e, size in zip(index[2:], rule["n"], rule["s"], rule["d"], rule["b"], rule["e"], x[2:], strict=True):
            divisor *= sum(i * s - b + j * d < size + e for j in range(n))
    return _pooled(rule["f"], values, divisor, rule.get("p", 2.0))


def _reduce(p: Read, rule: Any, layer: Any, index: list[int]) -> tuple[float, float]:
    x, axes = p.shape(rule["r"][0]), rule["a"]
    kept = [i for a, i in enumerate(index) if a not in axes] if rule["keep"] else list(index)
    values = []
    for inner in np.ndindex(*[x[a] for a in axes]):
        rest, within = iter(kept), iter(inner)
        values.append(p.value(rule["r"][0], [next(within) if a in axes else next(rest) for a in range(len(x))]))
    return _pooled(rule["f"], values, len(values), rule.get("p", 2.0))


def _bins(p: Read, rule: Any, layer: Any, index: list[int]) -> tuple[float, float]:
    x = p.shape(rule["r"][0])
    if rule.get("flat"):
        rows = [(c, tuple(bins), at) for bins in rule["l"] for c in range(x[1]) for at in np.ndindex(*bins)]
        channel, bins, at = rows[index[1]]
    else:
        channel, bins, at = index[1], tuple(rule["l"][0]), tuple(index[2:])
    ranges = [range(math.floor(i * n / o), math.ceil((i + 1) * n / o)) for i, n, o in zip(at, x[2:], bins, strict=True)]
    values = [
        p.value(rule["r"][0], (index[0], channel, *(r[j] for r, j in zip(ranges, k, strict=True))))
        for k in np.ndindex(*map(len, ranges))
    ]
    return _pooled(rule["f"], values, len(values))


def _softmax(p: Read, rule: Any, layer: Any, index: list[int]) -> tuple[float, float]:
    x = p.shape(rule["r"][0])
    values = {}
    for inner in np.ndindex(*[x[a] for a in rule["a"]]):
        at = list(index)
        for a, i in zip(rule["a"], inner, strict=True):
            at[a] = i
        values[tuple(at)] = p.value(rule["r"][0], at)
    top = max(values.values())
    total = math.fsum(math.exp(v - top) for v in values.values())
    mine = values[tuple(index)]
    if rule["log"]:
        return mine - top - math.log(total), abs(mine) + abs(top)
    return math.exp(mine - top) / total, 0.0


def _batch(p: Read, rule: Any, layer: Any, index: list[int]) -> tuple[float, float]:
    x = p.value(rule["r"][0], index)
    scale, bias, mean, variance = (p.value(t, [index[1]]) for t in rule["r"][1:])
    factor = scale / math.sqrt(variance + rule["eps"])
    return (x - mean) * factor + bias, (abs(x) + abs(mean)) * abs(factor) + abs(bias)


def _norm(p: Read, rule: Any, layer: Any, index: list[int]) -> tuple[float, float]:
    x = p.shape(rule["r"][0])
    ranges = [range(n) if a in rule["a"] else range(i, i + 1) for a, (n, i) in enumerate(zip(x, index, strict=True))]
    if rule.get("groups"):
        size = x[1] // rule["groups"]
        ranges[1] = range(index[1] // size * size, (index[1] // size + 1) * size)
    values = [p.value(rule["r"][0], [r[j] for r, j in zip(ranges, k, strict=True)]) for k in np.ndindex(*map(len, ranges))]
    mean = math.fsum(values) / len(values) if rule["centred"] else 0.0
    variance = math.fsum((v - mean) ** 2 for v in values) / len(values)
    spread = math.sqrt(variance) + rule["eps"] if rule.get("after") else math.sqrt(variance + rule["eps"])

    def learned(t: int, otherwise: float) -> float:
        if t < 0:
            return otherwise
        if rule["by"] == "last":
            return p.value(t, index[len(index) - len(p.shape(t)) :])
        return p.value(t, [index[1] // (x[1] // rule["groups"]) if rule["by"] == "group" else index[1]])

    scale, bias = learned(rule["r"][1], 1.0), learned(rule["r"][2], 0.0)
    mine = p.value(rule["r"][0], index)
    return (mine - mean) / spread * scale + bias, (abs(mine) + abs(mean)) / spread * abs(scale) + abs(bias)


def _lrn(p: Read, rule: Any, layer: Any, index: list[int]) -> float:
    channels = p.shape(rule["r"][0])[1]
    around = range(max(0, index[1] - (rule["size"] - 1) // 2), min(channels, index[1] + rule["size"] // 2 + 1))
    squares = math.fsum(p.value(rule["r"][0], [index[0], c, *index[2:]]) ** 2 for c in around)
    return p.value(rule["r"][0], index) / (rule["bias"] + rule["alpha"] / rule["size"] * squares) ** rule["beta"]


def _curve(p: Read, rule: Any, layer: Any, index: list[int]) -> tuple[float, float]:
    flat = np.ravel_multi_index(index, p.shape(layer["t"]))
    x = p.value(rule["r"][0], np.unravel_index(flat, p.shape(rule["r"][0])))
    y = float(_FUNCTIONS[rule["f"]](x, rule))
    return y, abs(x)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


_FUNCTIONS = {
    "Relu": lambda x, r: max(x, 0),
    "LeakyRelu": lambda x, r: x if x >= 0 else r["alpha"] * x,
    "ThresholdedRelu": lambda x, r: x if x > r["alpha"] else 0,
    "Elu": lambda x, r: x if x >= 0 else r["alpha"] * math.expm1(x),
    "Selu": lambda x, r: r["gamma"] * (x if x > 0 else r["alpha"] * math.expm1(x)),
    "Celu": lambda x, r: max(0, x) + min(0, r["alpha"] * math.expm1(x / r["alpha"])),
    "Gelu": lambda x, r: (
        0.5 * x * (1 + math.erf(x / math.sqrt(2)))
        if r["approximate"] == "none"
        else 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "Swish": lambda x, r: x * _sigmoid(r["alpha"] * x),
    "Affine": lambda x, r: r["alpha"] * x + r["beta"],
    "HardSigmoid": lambda x, r: min(max(r["alpha"] * x + r["beta"], 0), 1),
    "Shrink": lambda x, r: x + r["bias"] if x < -r["lambd"] else x - r["bias"] if x > r["lambd"] else 0,
    "Sigmoid": lambda x, r: _sigmoid(x),
    "Tanh": lambda x, r: math.tanh(x),
    "HardSwish": lambda x, r: x * min(max(x / 6 + 0.5, 0), 1),
    "Mish": lambda x, r: x * math.tanh(math.log1p(math.exp(x))),
    "Softplus": lambda x, r: math.log1p(math.exp(x)),
    "Softsign": lambda x, r: x / (1 + abs(x)),
    "Exp": lambda x, r: math.exp(x),
    "Log": lambda x, r: math.log(x),
    "Sqrt": lambda x, r: math.sqrt(x),
    "Reciprocal": lambda x, r: 1 / x,
    "Erf": lambda x, r: math.erf(x),
    "Abs": lambda x, r: abs(x),
    "Neg": lambda x, r: -x,
    "Sign": lambda x, r: (x > 0) - (x < 0),
    "Floor": lambda x, r: math.floor(x),
    "Ceil": lambda x, r: math.ceil(x),
    "Round": lambda x, r: round(x),
    "Sin": lambda x, r: math.sin(x),
    "Cos": lambda x, r: math.cos(x),
    "Not": lambda x, r: not x,
    "Clip": lambda x, r: min(max(x, r.get("min", -math.inf)), r.get("max", math.inf)),
}


def _together(p: Read, rule: Any, layer: Any, index: list[int]) -> tuple[float, float]:
    values = []
    for t, aligned in zip(rule["r"], rule["al"], strict=True):
        flat = np.ravel_multi_index([0 if n == 1 else i for i, n in zip(index, aligned, strict=True)], aligned)
        values.append(p.value(t, np.unravel_index(flat, p.shape(t)) if p.shape(t) else ()))
    f = rule["f"]
    x, y = values[0], values[-1]
    results = {
        "Add": lambda: math.fsum(values),
        "Sum": lambda: math.fsum(values),
        "Mean": lambda: math.fsum(values) / len(values),
        "Sub": lambda: x - y,
        "Mul": lambda: x * y,
        "Div": lambda: x / y,
        "Pow": lambda: x**y,
        "Min": lambda: min(values),
        "Max": lambda: max(values),
        "PRelu": lambda: x * y if x < 0 else x,
        "Where": lambda: values[1] if x else values[2],
        "Expand": lambda: x,
        "Equal": lambda: x == y,
        "Greater": lambda: x > y,
        "GreaterOrEqual": lambda: x >= y,
        "Less": lambda: x < y,
        "LessOrEqual": lambda: x <= y,
        "And": lambda: bool(x) and bool(y),
        "Or": lambda: bool(x) or bool(y),
        "Xor": lambda: bool(x) != bool(y),
        "DequantizeLinear": lambda: (x - (y if len(values) > 2 else 0)) * values[1],
        "QuantizeLinear": lambda: min(
            max(round(float(np.float32(x) / np.float32(values[1]))) + (y if len(values) > 2 else 0), rule["lo"]), rule["hi"]
        ),
    }
    size = math.fsum(map(abs, values)) if f in ("Add", "Sum", "Mean", "Sub") else 0.0
    return float(results[f]()), size


def _unpool(p: Read, rule: Any, layer: Any, index: list[int]) -> float:
    mine = int(np.ravel_multi_index(index, p.shape(layer["t"])))
    for at in np.ndindex(*p.shape(rule["r"][0])[2:]):
        if p.value(rule["r"][1], (*index[:2], *at)) == mine:
            return p.value(rule["r"][0], (*index[:2], *at))
    return 0.0


def _resize(p: Read, rule: Any, layer: Any, index: list[int]) -> tuple[float, float]:
    terms = {tuple(index): 1.0}
    for axis, (places, weights) in rule["taps"].items():
        a, found = int(axis), {}
        for at, factor in terms.items():
            for place, weight in zip(places[index[a]], weights[index[a]], strict=True):
                to = (*at[:a], place, *at[a + 1 :])
                found[to] = found.get(to, 0.0) + factor * weight
        terms = found
    return _summed([p.value(rule["r"][0], at) * weight for at, weight in terms.items() if weight])


def _moved(p: Read, rule: Any, layer: Any, index: list[int]) -> tuple[int, Any] | None:
    """Where an element comes from, by moving the numbers of all elements with NumPy."""
    kind, reads = rule["k"], rule["r"]
    shapes = [p.shape(t) for t in reads]
    places = [np.arange(math.prod(s)).reshape(s) for s in shapes]
    if kind == "concat":
        which = np.concatenate([np.full(s, i) for i, s in enumerate(shapes)], rule["a"])[tuple(index)]
        flat = np.concatenate(places, rule["a"])[tuple(index)]
        return reads[which], np.unravel_index(flat, shapes[which])
    (x,) = places
    out = p.shape(layer["t"])
    if kind == "same":
        y = x.reshape(out)
    elif kind == "transpose":
        y = x.transpose(rule["perm"])
    elif kind == "slice":
        ends = [b + (n - 1) * s for b, n, s in zip(rule["b"], out, rule["s"], strict=True)]
        y = x[np.ix_(*(list(range(b, e + (1 if s > 0 else -1), s)) for b, e, s in zip(rule["b"], ends, rule["s"], strict=True)))]
    elif kind == "pad":
        before = rule["b"]
        after = [n - b - m for n, b, m in zip(out, before, shapes[0], strict=True)]
        crop = tuple(slice(max(-b, 0), m - max(-a, 0)) for b, a, m in zip(before, after, shapes[0], strict=True))
        widths = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
        more = {"constant_values": -1} if rule["m"] == "constant" else {}
        y = np.pad(x[crop], widths, rule["m"], **more)
    elif kind == "gather":
        y = np.take(x, rule["i"] if rule["keep"] else rule["i"][0], rule["a"])
    else:
        assert kind == "blocks"
        (b, c, h, w), n = shapes[0], rule["n"]
        if rule["m"] == "DCR":
            y = x.reshape(b, n, n, c // n**2, h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            y = x.reshape(b, c // n**2, n, n, h, w).transpose(0, 1, 4, 2, 5, 3)
        y = y.reshape(out)
    flat = int(y[tuple(index)])
    return None if flat < 0 else (reads[0], np.unravel_index(flat, shapes[0]))


_TERMS: dict[str, Any] = {
    "conv": _conv,
    "convt": _convt,
    "dense": _dense,
    "pool": _pool,
    "reduce": _reduce,
    "bins": _bins,
    "softmax": _softmax,
    "batch": _batch,
    "norm": _norm,
    "lrn": _lrn,
    "curve": _curve,
    "together": _together,
    "unpool": _unpool,
    "resize": _resize,
}


def wrong(page: Read, count: int = 3, tolerance: float = 1e-5) -> tuple[list[str], int]:
    """Elements whose arithmetic does not give what the engine computed, and how many were compared."""
    found, compared = [], 0
    for i, layer in enumerate(page.layers):
        for index in page.points(i, count):
            engine = page.value(layer["t"], index)
            value, size = page.compute(i, index)
            compared += 1
            same = value == engine or (math.isnan(value) and math.isnan(engine))
            if not same and not abs(value - engine) <= layer.get("tol", tolerance) * max(abs(engine), size):
                found.append(f"{i} {layer['op']} {layer['name']} {index}: {value} is not {engine}")
    return found, compared
