"""lstm, gru and rnn against the oracle: every attribute, around every tile, alone and in batches."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import ROUNDING, assert_close, assert_same_bits

import cnnengine.functional as F
from cnnengine.errors import InputError, ShapeError
from cnnengine.operator import NodeRecord
from cnnengine.ops import recurrent as ops
from cnnengine.spec import TensorSpec

from .common import both, normal, refused

FUNCTIONS = {"LSTM": F.lstm, "GRU": F.gru, "RNN": F.rnn}
KINDS = tuple(FUNCTIONS)
DIRECTIONS = ("forward", "reverse", "bidirectional")
# every function that ONNX names, with its alpha and beta
EVERY = {
    "Affine": (0.7, 0.1),
    "Elu": (0.8, None),
    "HardSigmoid": (0.3, 0.4),
    "LeakyRelu": (0.1, None),
    "Relu": (None, None),
    "ScaledTanh": (0.9, 0.6),
    "Sigmoid": (None, None),
    "Softplus": (None, None),
    "Softsign": (None, None),
    "Tanh": (None, None),
    "ThresholdedRelu": (0.2, None),
}


def problem(kind, steps, batch, size, hidden, direction="forward", *, bias=True, seed=0, scale=1.0):
    """x, w, r and bias, for sums near one."""
    d, gates = 2 if direction == "bidirectional" else 1, {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    w, r = normal(d, gates * hidden, size, seed=seed), normal(d, gates * hidden, hidden, seed=seed + 1)
    b = normal(d, 2 * gates * hidden, seed=seed + 2) * np.float32(0.3) if bias else None
    w, r = (a * np.float32(scale / np.sqrt(max(a.shape[-1], 1))) for a in (w, r))
    return normal(steps, batch, size, seed=seed + 3), w, r, b


def agree(kind, arrays, *, functions=None, **options):
    """Results, of any number of threads, like the oracle's; the reference's too."""
    got = both(FUNCTIONS[kind], *arrays, **named(functions), **options)
    want, magnitude = oracle.recurrent(kind, *arrays, functions=functions, **options)
    terms = arrays[1].shape[-1] + arrays[2].shape[-1] + 4
    assert len(got) == len(want)
    for a, b, m in zip(got, want, magnitude, strict=True):
        assert_close(a, b, ROUNDING, magnitude=m, terms=terms)
    for a, b, m in zip(reference(kind, arrays, **named(functions), **options), want, magnitude, strict=True):
        assert_close(a, b, ROUNDING, magnitude=m, terms=terms)
    return got


def named(functions):
    """Keywords of the three lists for (name, alpha, beta) of the oracle: values only of functions that have them."""
    if functions is None:
        return {}
    values = [[f[k + 1] for f in functions if EVERY[f[0]][k] is not None] for k in (0, 1)]
    return {"activations": [f[0] for f in functions], "activation_alpha": values[0], "activation_beta": values[1]}


def reference(kind, arrays, *, sequence_lens=None, initial_h=None, initial_c=None, peepholes=None, **attributes):
    inputs = [*arrays, None if sequence_lens is None else np.asarray(sequence_lens, np.int32), initial_h]
    inputs += [initial_c, peepholes] if kind == "LSTM" else []
    given = {key: value for key, value in attributes.items() if value is not None}
    names = tuple("" if a is None else f"x{i}" for i, a in enumerate(inputs))
    op = getattr(ops, kind).from_onnx(NodeRecord(kind, "", 22, given, names, ()))
    specs = op.specs([None if a is None else TensorSpec.of(a) for a in inputs])
    results = op.evaluate(*inputs)
    assert [s.shape for s in specs] == [a.shape for a in results]
    return results


# hidden sizes around the registers and around the pairs and fours of panels of every instruction set
@pytest.mark.parametrize("hidden", [1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 33, 48])
@pytest.mark.parametrize("kind", KINDS)
def test_hidden_sizes(isa, kind, hidden):
    agree(kind, problem(kind, 4, 1, 5, hidden, "bidirectional"), direction="bidirectional")
    agree(kind, problem(kind, 3, 3, 5, hidden), sequence_lens=[3, 1, 2])
    if kind == "GRU":
        agree(kind, problem(kind, 4, 1, 5, hidden), linear_before_reset=True)
        agree(kind, problem(kind, 3, 2, 5, hidden, bias=False), linear_before_reset=True)


# batches around the pixels of a tile: one direction's sequences are cut into chunks of a tile each
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 14, 15, 16, 29])
@pytest.mark.parametrize("kind", KINDS)
def test_batches(isa, kind, batch):
    lengths = np.random.default_rng(batch).integers(0, 4, batch)
    agree(kind, problem(kind, 3, batch, 6, 10), sequence_lens=lengths, initial_h=normal(1, batch, 10))


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_has_the_same_bits_alone_and_in_a_batch(isa, kind, linear):
    x, w, r, b = problem(kind, 6, 9, 12, 20, "bidirectional")
    options = {"direction": "bidirectional", **({"linear_before_reset": linear} if kind == "GRU" else {})}
    whole = FUNCTIONS[kind](x, w, r, b, **options)[0]
    for n in (0, 4, 8):
        assert_same_bits(FUNCTIONS[kind](x[:, n : n + 1].copy(), w, r, b, **options)[0], whole[:, :, n : n + 1].copy())


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_directions_layouts_and_lengths(isa, kind, direction, layout):
    x, w, r, b = problem(kind, 7, 3, 5, 6, direction)
    d = len(w)
    state = {"initial_h": normal(*((3, d) if layout else (d, 3)), 6)}
    if kind == "LSTM":
        state["initial_c"] = normal(*((3, d) if layout else (d, 3)), 6, seed=1)
    x = x.swapaxes(0, 1).copy() if layout else x
    for lengths in (None, [7, 2, 5], [4, 0, 1], [7, 7, 7]):
        got = agree(kind, (x, w, r, b), direction=direction, layout=layout, sequence_lens=lengths, **state)
        agree(kind, (x, w, r, None), direction=direction, layout=layout, sequence_lens=lengths)
        if lengths is not None:
            y = got[0].transpose(1, 2, 0, 3) if layout else got[0]
            assert all(not y[n:, :, i].any() for i, n in enumerate(lengths))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EVERY)
def test_every_function_in_every_place(isa, kind, name):
    defaults = [(n, 0.0, 0.0) for n in oracle.recurrent.__globals__["DEFAULTS"][kind]]
    one = (name, *(v or 0.0 for v in EVERY[name]))
    options = {"linear_before_reset": True} if kind == "GRU" else {}
    for place in range(len(defaults)):
        functions = [*defaults[:place], one, *defaults[place + 1 :]]
        agree(kind, problem(kind, 4, 2, 5, 9), functions=functions)
        agree(kind, problem(kind, 4, 1, 5, 9), functions=functions, **options)
    # other functions of the other direction
    agree(kind, problem(kind, 3, 1, 5, 9, "bidirectional"), functions=[one] * len(defaults) + defaults, direction="bidirectional")


def test_a_threshold_lets_its_own_value_pass(isa):
    one = np.ones((1, 1, 1), np.float32)
    for alpha in (0.5, 0.25, -1.0):
        x = np.array([np.nextafter(np.float32(alpha), np.float32(-9)), alpha, alpha + 1], np.float32).reshape(1, 3, 1)
        y, _ = F.rnn(x, one, one * 0, activations=["ThresholdedRelu"], activation_alpha=[alpha])
        np.testing.assert_array_equal(y.reshape(-1), [0, alpha, alpha + 1])


@pytest.mark.parametrize("kind", KINDS)
def test_clip_bounds_the_sums(isa, kind):
    for clip in (0.05, 0.4, 3.0):
        agree(kind, problem(kind, 5, 2, 4, 7, scale=3), clip=clip)
        if kind == "GRU":
            agree(kind, problem(kind, 5, 2, 4, 7, scale=3), clip=clip, linear_before_reset=True)


def test_peepholes_and_coupled_gates(isa):
    for batch in (1, 4):
        arrays = problem("LSTM", 5, batch, 4, 11, "bidirectional")
        options = {"direction": "bidirectional", "initial_c": normal(2, batch, 11)}
        peepholes = normal(2, 33)
        agree("LSTM", arrays, peepholes=peepholes, **options)
        agree("LSTM", arrays, input_forget=True, **options)
        agree("LSTM", arrays, input_forget=True, peepholes=peepholes, clip=0.8, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_no_steps_and_no_sequences(isa, kind):
    x, w, r, b = problem(kind, 4, 2, 5, 6)
    h = normal(1, 2, 6)
    got = FUNCTIONS[kind](x[:0], w, r, b, initial_h=h)
    assert got[0].shape == (0, 1, 2, 6)
    assert_same_bits(got[1], h)
    assert [a.shape for a in FUNCTIONS[kind](x[:, :0], w, r, b)][:2] == [(4, 1, 0, 6), (1, 0, 6)]
    agree(kind, (x[..., :0], w[..., :0], r, b))


@pytest.mark.parametrize("kind", KINDS)
def test_what_saturates_and_what_is_not_a_number(isa, kind):
    for linear in (False, True):
        options = {"linear_before_reset": linear} if kind == "GRU" else {}
        x, w, r, b = problem(kind, 3, 2, 4, 9)
        large = x * np.float32(1e4)
        with np.errstate(over="ignore"):
            want, magnitude = oracle.recurrent(kind, large, w, r, b, **options)
        for a, e, m in zip(FUNCTIONS[kind](large, w, r, b, **options), want, magnitude, strict=True):
            assert_close(a, e, ROUNDING, magnitude=m, terms=20)
        x[1, 1, 2] = np.nan
        y = FUNCTIONS[kind](x, w, r, b, **options)[0]
        assert np.isfinite(y[:, :, 0]).all()
        assert np.isfinite(y[0]).all()
        assert np.isnan(y[1:, :, 1]).all()


def test_a_large_layer_takes_the_weights_in_both_orders(isa):
    for kind in KINDS:
        agree(kind, problem(kind, 3, 1, 70, 130, "bidirectional", scale=0.7), direction="bidirectional")


@given(
    kind=st.sampled_from(KINDS),
    direction=st.sampled_from(DIRECTIONS),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 20), st.integers(1, 40)),
    layout=st.integers(0, 1),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    clip=st.sampled_from([None, 0.5]),
    data=st.data(),
)
def test_any_layer(kind, direction, sizes, layout, flags, clip, data):
    steps, batch, _, hidden = sizes
    x, w, r, b = problem(kind, *sizes, direction, bias=flags[0])
    options = {"direction": direction, "layout": layout, "clip": clip}
    if flags[1]:
        options["sequence_lens"] = data.draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    state = (batch, len(w), hidden) if layout else (len(w), batch, hidden)
    if flags[2]:
        options["initial_h"] = normal(*state)
    if kind == "GRU":
        options["linear_before_reset"] = flags[3]
    if kind == "LSTM":
        options["input_forget"] = flags[3]
    agree(kind, (x.swapaxes(0, 1).copy() if layout else x, w, r, b), **options)


def test_strided_arrays_and_out(isa):
    x, w, r, b = problem("LSTM", 4, 2, 5, 8)
    wide = np.zeros((4, 4, 10), np.float32)
    wide[:, ::2, ::2] = x
    want = F.lstm(x, w, r, b)
    out = np.empty((4, 1, 2, 8), np.float32)
    got = F.lstm(wide[:, ::2, ::2], w[::1], np.asfortranarray(r), b, out=out)
    assert got[0] is out
    for a, e in zip(got, want, strict=True):
        assert_same_bits(a, e)


def test_refused():
    x, w, r, b = problem("LSTM", 4, 2, 5, 8)
    with refused(ShapeError, "W"):
        F.lstm(x, w[..., :4], r, b)
    with refused(ShapeError, "R"):
        F.lstm(x, w, r[:, :24], b)
    with refused(ShapeError, "B"):
        F.lstm(x, w, r, b[:, :-1])
    with refused(ShapeError, "x"):
        F.lstm(x[0], w, r, b)
    with refused(ShapeError, "initial_h"):
        F.lstm(x, w, r, b, initial_h=normal(2, 1, 8))
    with refused(ShapeError, "P"):
        F.lstm(x, w, r, b, peepholes=normal(1, 16))
    with refused(ShapeError, "W"):
        F.lstm(x, w, r, b, direction="bidirectional")
    for lengths in ([4, 5], [-1, 2], [2**40, 1]):
        with refused(InputError, "sequence_lens"):
            F.lstm(x, w, r, b, sequence_lens=lengths)
    with refused(ShapeError, "sequence_lens"):
        F.lstm(x, w, r, b, sequence_lens=[4])
    with refused(InputError, "sequence_lens"):
        F.lstm(x, w, r, b, sequence_lens=[1.0, 2.0])
    for options in (
        {"direction": "both"},
        {"layout": 2},
        {"clip": -1.0},
        {"clip": np.nan},
        {"activations": ["Tanh"]},
        {"activations": ["Sigmoid", "Tanh", "Sine"]},
        {"activation_alpha": [1.0, 2.0]},
        {"hidden_size": 0},
    ):
        with refused(InputError, "LSTM"):
            F.lstm(x, w, r, b, **options)
