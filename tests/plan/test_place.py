"""Placing: tensors that are parts of others lie inside of them; results are those of the copies, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from plane_nets import Net, run

from cnnengine._kernels.dispatch import lanes
from cnnengine.plan import plan
from cnnengine.runtime.runner import fill_arenas


@pytest.fixture(autouse=True)
def rubbish():
    fill_arenas(255)
    yield
    fill_arenas(None)


def copies(kernels: list[str]) -> int:
    return sum(k.startswith("copy_planes") for k in kernels)


def check(net: Net, *outputs: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Copies with and without placing, after comparing values for 1 and 3 threads and for single images."""
    model, x = net.model(*outputs), net.rng.standard_normal(net.shape).astype(np.float32)
    placed, kernels, _ = run(model, x)
    with monkeypatch.context() as patch:
        patch.setattr(plan, "place", list)
        copied, all_kernels, _ = run(model, x)
    assert all(np.isfinite(v).all() for v in placed)
    for others in (copied, run(model, x, 3)[0]):
        for a, b in zip(placed, others, strict=True):
            np.testing.assert_array_equal(a, b)
    return copies(kernels), copies(all_kernels)


@pytest.mark.parametrize("n", [1, 3])
def test_a_concat_of_whole_blocks_copies_nothing(isa, monkeypatch, n):
    v = lanes()
    net = Net(np.random.default_rng(0), (n, 5, 6, 7))
    x = ("x", 5)
    y = net.concat(net.conv(x, v), net.conv(x, 2 * v, 3), net.conv(x, v + 3))
    assert check(net, net.conv(y, 9, 3), monkeypatch=monkeypatch) == (0, 3)


@pytest.mark.parametrize("n", [1, 2])
def test_a_dense_block_is_one_buffer(isa, monkeypatch, n):
    v = lanes()
    net = Net(np.random.default_rng(1), (n, 3, 5, 6))
    features = [net.conv(("x", 3), 2 * v)]
    for _ in range(4):
        features.append(net.conv(net.concat(*features), v, 3))
    assert check(net, net.concat(*features), monkeypatch=monkeypatch) == (0, 2 + 3 + 4 + 5)


def test_a_chain_of_concats_is_one_buffer(isa, monkeypatch):
    v = lanes()
    net = Net(np.random.default_rng(2), (2, 3, 5, 6))
    y = net.conv(("x", 3), v)
    for _ in range(3):
        y = net.concat(y, net.conv(y, 2 * v, 3))
    assert check(net, net.conv(y, 8), monkeypatch=monkeypatch) == (0, 6)


def test_parts_that_end_within_a_block(isa, monkeypatch):
    v = lanes()
    net = Net(np.random.default_rng(3), (2, 3, 4, 5))
    features = [net.conv(("x", 3), v + v // 2)]
    for _ in range(3):
        features.append(net.conv(net.concat(*features), v // 2 + v, 3))
    placed, copied = check(net, net.concat(*features), monkeypatch=monkeypatch)
    assert 0 < placed < copied


def test_one_part_twice(isa, monkeypatch):
    v = lanes()
    net = Net(np.random.default_rng(4), (2, 3, 4, 5))
    y = net.conv(("x", 3), v)
    assert check(net, net.conv(net.concat(y, y), 4), net.concat(net.conv(y, 3), y), monkeypatch=monkeypatch) == (2, 4)


@pytest.mark.parametrize("n", [1, 2])
def test_pieces_are_ranges_of_their_source(isa, monkeypatch, n):
    v = lanes()
    net = Net(np.random.default_rng(5), (n, 3, 4, 5))
    y = net.conv(("x", 3), 4 * v + 2)
    a, b, c = net.split(y, [v, 2 * v, v + 2])
    d = net.slice(y, v, 2 * v + 1)
    results = [net.conv(t, 5, k) for t, k in ((a, 3), (b, 1), (c, 3), (d, 3))]
    assert check(net, *results, monkeypatch=monkeypatch) == (0, 4)


@pytest.mark.parametrize("n", [1, 2])
def test_a_concat_that_splits_alone_read(isa, monkeypatch, n):
    """Nothing has the whole as an operand: the memory is as large as its last part's place and size say."""
    v = lanes()
    net = Net(np.random.default_rng(6), (n, 3, 4, 5))
    y = net.concat(net.conv(("x", 3), v), net.conv(("x", 3), v, 3), net.conv(("x", 3), 2 * v))
    others = [net.conv(("x", 3), v, 3) for _ in range(3)]  # alive at once with it
    pieces = net.split(y, [v, 2 * v, v])
    results = [net.conv(t, 5, 3) for t in (*others, *pieces[::-1])]
    assert check(net, *results, monkeypatch=monkeypatch) == (0, 6)
    _, _, nbytes = run(net.model(*results), net.rng.standard_normal(net.shape).astype(np.float32))
    assert nbytes >= 4 * n * 4 * 5 * (4 + 3) * v


@pytest.mark.parametrize("seed", range(25))
def test_random_nests(isa, monkeypatch, seed):
    rng = np.random.default_rng(seed)
    v = lanes()
    net = Net(rng, (int(rng.integers(1, 4)), 4, int(rng.integers(1, 6)), int(rng.integers(1, 20))))
    values = [net.conv(("x", 4), int(rng.integers(1, 4)) * v)]

    def size() -> int:
        return int(rng.choice([v, 2 * v, v // 2, 3, v + 1]))

    for _ in range(14):
        kind = rng.choice(["conv", "concat", "concat", "split", "slice", "relu", "add"])
        some = [values[i] for i in rng.integers(0, len(values), rng.integers(1, 5))]
        x = some[0]
        if kind == "conv":
            values.append(net.conv(x, size(), int(rng.choice([1, 3]))))
        elif kind == "concat" and sum(c for _, c in some) < 30 * v:
            values.append(net.concat(*some))
        elif kind == "split" and x[1] > 1:
            cut = min(size(), x[1] - 1)
            values += net.split(x, [cut, x[1] - cut])
        elif kind == "slice":
            start = int(rng.choice([0, v, 3])) % x[1]
            values.append(net.slice(x, start, int(rng.integers(start, x[1])) + 1))
        elif kind == "relu":
            values.append((net.add("Relu", [x[0]])[0], x[1]))
        else:
            values.append((net.add("Add", [x[0], net.conv(x, x[1])[0]])[0], x[1]))
    placed, copied = check(net, *values[-6:], net.concat(*values[:4]), monkeypatch=monkeypatch)
    assert placed <= copied
