"""What all functions share: the kinds of arrays they take and refuse, `out`, `threads`, their signatures, denormals."""

from __future__ import annotations

import functools
import inspect
import re
import warnings

import numpy as np
import pytest
from oracle import assert_same_bits

import cnnengine.functional as F
from cnnengine.errors import CNNEngineError, InputError, ShapeError

from .common import both, normal, refused


def per_channel(c):
    return normal(c, seed=1), normal(c, seed=2), normal(c, seed=3), np.square(normal(c, seed=4)) + 1


def windowed(rank):
    space = (7, 6, 5)[:rank]
    x, w, wt, bias = normal(2, 5, *space), normal(6, 5, *[3] * rank), normal(5, 3, *[2] * rank), normal(6)
    d = f"{rank}d"
    pooled = tuple(n // 2 for n in space)
    # one index per window: its first element, counted in the whole of (2, 5, 2 * pooled...)
    at = np.indices((2, 5, *pooled))
    at[2:] *= 2
    indices = np.ravel_multi_index(tuple(at), (2, 5, *[2 * n for n in pooled])).astype(np.int64)
    values = normal(2, 5, *pooled)
    return {
        f"conv{d}": ((x, w, bias), {"pads": 1}),
        f"conv_transpose{d}": ((x, wt, bias[:3]), {"stride": 2}),
        f"max_pool{d}": ((x, 2), {"stride": 2, "pads": 1}),
        f"avg_pool{d}": ((x, 2), {"stride": 2, "pads": 1}),
        f"lp_pool{d}": ((x, 2), {"stride": 2, "pads": 1}),
        f"adaptive_max_pool{d}": ((x, 3), {}),
        f"adaptive_avg_pool{d}": ((x, 3), {}),
        f"max_unpool{d}": ((values, indices, 2), {"stride": 2}),
    }


IMAGE = normal(2, 6, 5, 7)
SCALE, BIAS, MEAN, VAR = per_channel(6)
# every function of the module: (arguments, keywords)
CALLS = {
    **windowed(1),
    **windowed(2),
    **windowed(3),
    "global_max_pool": ((IMAGE,), {}),
    "global_avg_pool": ((IMAGE,), {}),
    "global_lp_pool": ((IMAGE,), {}),
    "spatial_pyramid_pool": ((IMAGE,), {}),
    "flatten": ((IMAGE,), {}),
    "dense": ((normal(4, 9), normal(5, 9), normal(5)), {}),
    "batch_norm": ((IMAGE, SCALE, BIAS, MEAN, VAR), {}),
    "layer_norm": ((IMAGE, normal(7), normal(7, seed=1)), {}),
    "instance_norm": ((IMAGE, SCALE, BIAS), {}),
    "group_norm": ((IMAGE, SCALE, BIAS), {"groups": 3}),
    "local_response_norm": ((IMAGE,), {"size": 3}),
    "prelu": ((IMAGE, normal(6, 1, 1)), {}),
    "lstm": ((normal(4, 2, 5), normal(1, 12, 5), normal(1, 12, 3), normal(1, 24)), {}),
    "gru": ((normal(4, 2, 5), normal(2, 9, 5), normal(2, 9, 3), normal(2, 18)), {"direction": "bidirectional"}),
    "rnn": ((normal(4, 2, 5), normal(1, 3, 5), normal(1, 3, 3), normal(1, 6)), {}),
    "clip": ((IMAGE,), {"min": -0.5, "max": 0.5}),
    **{
        name: ((IMAGE,), {})
        for name in (
            *("dropout", "relu", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "hard_sigmoid"),
            *("hard_swish", "tanh", "softplus", "softsign", "softmax", "log_softmax"),
        )
    },
}
each_function = pytest.mark.parametrize("name", CALLS)


def first_of(function):
    """The function with the first of its results alone."""

    @functools.wraps(function)
    def one(*args, **kw):
        y, *states = function(*args, **kw)
        assert all(type(s) is np.ndarray and s.dtype == np.float32 and s.flags.writeable for s in states)
        return y

    return one


def fresh(name):
    """(function, copies of its arguments, keywords, positions of the arrays)."""
    args, kw = CALLS[name]
    args = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    function = first_of(getattr(F, name)) if name in ("lstm", "gru", "rnn") else getattr(F, name)
    return function, args, kw, [i for i, a in enumerate(args) if isinstance(a, np.ndarray)]


def strided(a):
    wide = np.full([2 * n for n in a.shape], 7, a.dtype)
    wide[tuple(slice(None, None, 2) for _ in a.shape)] = a
    return wide[tuple(slice(None, None, 2) for _ in a.shape)]


def reversed_(a):
    back = tuple(slice(None, None, -1) for _ in a.shape)
    return np.ascontiguousarray(a[back])[back]


def misaligned(a):
    raw = np.empty(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def last_axis_first(a):
    return np.ascontiguousarray(np.moveaxis(a, -1, 0)).transpose(*range(1, a.ndim), 0)


def inside_a_larger_one(a):
    larger = np.full([n + 3 for n in a.shape], np.nan if a.dtype.kind == "f" else -1, a.dtype)
    larger[tuple(slice(1, n + 1) for n in a.shape)] = a
    return larger[tuple(slice(1, n + 1) for n in a.shape)]


KINDS = {
    "strided": strided,
    "reversed": reversed_,
    "fortran": np.asfortranarray,
    "channels last": last_axis_first,
    "a window of a larger array": inside_a_larger_one,
    "read-only": read_only,
    "misaligned": misaligned,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "read-only and strided": lambda a: np.broadcast_to(strided(a), a.shape),
    "a matrix's own subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
}


def test_every_function_is_here():
    public = set(F.__all__)
    assert public == set(CALLS)


@each_function
def test_runs_at_every_isa_and_thread_count(isa, name):
    function, args, kw, arrays = fresh(name)
    before = [args[i].copy() for i in arrays]
    y = both(function, *args, **kw)
    assert type(y) is np.ndarray and y.dtype == np.float32 and y.flags.c_contiguous and y.flags.writeable
    for i, copy in zip(arrays, before, strict=True):
        assert_same_bits(args[i], copy)  # inputs stay as they were
        assert not np.shares_memory(y, args[i])
    assert_same_bits(function(*args, **kw), y)


@each_function
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_arrays(name, kind):
    function, args, kw, arrays = fresh(name)
    plain = function(*args, **kw)
    for i in arrays:
        changed = [KINDS[kind](a) if j == i else a for j, a in enumerate(args)]
        np.testing.assert_array_equal(changed[i], args[i])
        y = function(*changed, **kw)
        assert_same_bits(np.asarray(y), plain)
    changed = [KINDS[kind](a) if j in arrays else a for j, a in enumerate(args)]
    assert_same_bits(np.asarray(function(*changed, **kw)), plain)


@each_function
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.int64, np.uint8, bool, np.complex64, object, "U4"])
def test_other_dtypes_are_refused(name, dtype):
    function, args, kw, arrays = fresh(name)
    names = list(inspect.signature(function).parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in arrays:
            if args[i].dtype == dtype:
                continue  # the indices of max_unpool
            changed = [a.astype(dtype) if j == i else a for j, a in enumerate(args)]
            with refused(InputError, names[i]):
                function(*changed, **kw)


@each_function
@pytest.mark.parametrize("value", [None, "text", 3.5j], ids=repr)
def test_what_is_no_array_is_refused(name, value):
    function, args, kw, _ = fresh(name)
    with pytest.raises((CNNEngineError, TypeError)):
        function(value, *args[1:], **kw)


@each_function
def test_out(name, threads):
    function, args, kw, _ = fresh(name)
    expected = function(*args, **kw)
    out = np.full(expected.shape, np.nan, np.float32)
    assert function(*args, **kw, out=out, threads=threads) is out
    assert_same_bits(out, expected)
    # out in the middle of a larger array: nothing beside it is written
    larger = np.full(expected.size + 64, 7.0, np.float32)
    middle = larger[32:-32].reshape(expected.shape)
    assert function(*args, **kw, out=middle, threads=threads) is middle
    assert_same_bits(middle, expected)
    assert (larger[:32] == 7).all() and (larger[-32:] == 7).all()


@each_function
def test_out_is_checked(name):
    function, args, kw, _ = fresh(name)
    shape = function(*args, **kw).shape
    for wrong in ((*shape, 1), (*shape[:-1], shape[-1] + 1), shape[:-1], (shape[0] + 1, *shape[1:])):
        with refused(ShapeError, "out"):
            function(*args, **kw, out=np.empty(wrong, np.float32))
    for dtype in (np.float64, np.int32, np.float16):
        with refused(InputError, "out"):
            function(*args, **kw, out=np.empty(shape, dtype))
    fixed = np.empty(shape, np.float32)
    fixed.flags.writeable = False
    with pytest.raises(CNNEngineError, match="out"):
        function(*args, **kw, out=fixed)
    with pytest.raises((CNNEngineError, TypeError)):
        function(*args, **kw, out=[0.0])


@each_function
@pytest.mark.parametrize("kind", ["strided", "fortran", "misaligned", "byte-swapped"])
def test_an_unusual_out_is_filled_or_refused(name, kind):
    function, args, kw, _ = fresh(name)
    expected = function(*args, **kw)
    out = KINDS[kind](np.zeros(expected.shape, np.float32))
    try:
        y = function(*args, **kw, out=out)
    except CNNEngineError as error:
        assert "out" in str(error)
    else:
        assert y is out
        np.testing.assert_array_equal(out, expected)


@each_function
def test_out_over_an_input_is_right_or_refused(name):
    function, args, kw, _ = fresh(name)
    expected = function(*args, **kw)
    x = args[0]
    for offset in (0, 1, 3):
        memory = np.zeros(offset + max(x.size, expected.size), np.float32)
        memory[: x.size] = x.ravel()
        inside = memory[: x.size].reshape(x.shape)
        out = memory[offset : offset + expected.size].reshape(expected.shape)
        try:
            function(inside, *args[1:], **kw, out=out)
        except CNNEngineError as error:
            assert "out" in str(error)
        else:
            assert_same_bits(out, expected)


@each_function
def test_threads_are_checked(name):
    function, args, kw, _ = fresh(name)
    expected = function(*args, **kw)
    for threads in (1, 2, 3, 64, None, np.int64(2), 2**70):  # more than there can be is as many as there can be
        assert_same_bits(function(*args, **kw, threads=threads), expected)
    for threads in (0, -1, -(2**70)):
        with pytest.raises(CNNEngineError, match="threads"):
            function(*args, **kw, threads=threads)
    for threads in ("2", 1.5):
        with pytest.raises((CNNEngineError, TypeError)):
            function(*args, **kw, threads=threads)


@each_function
def test_options_are_keywords(name):
    function, args, kw, _ = fresh(name)
    limit = {"layer_norm": 3, "clip": 3}.get(name, len(args))
    with pytest.raises(TypeError):
        function(*args[:limit], *[None] * (limit - len(args)), 1)
    with pytest.raises(TypeError):
        function(*args, **kw, no_such_option=1)


WINDOW = "stride=1, pads=0, dilation=1"
CONV = f"x, w, bias=None, *, {WINDOW}, groups=1, auto_pad='NOTSET'"
TRANSPOSE = "x, w, bias=None, *, stride=1, pads=0, output_padding=0, output_shape=None, dilation=1, groups=1, auto_pad='NOTSET'"
POOL = f"x, kernel, *, {WINDOW}, ceil_mode=False, auto_pad='NOTSET'"
LP_POOL = f"x, kernel, *, p=2, {WINDOW}, ceil_mode=False, auto_pad='NOTSET'"
FUNCTIONS = "activations=None, activation_alpha=None, activation_beta=None, clip=None"
STEPS = "x, w, r, bias=None, *, sequence_lens=None, initial_h=None"
LSTM = f"{STEPS}, initial_c=None, peepholes=None, direction='forward', {FUNCTIONS}, input_forget=False"
SIGNATURES = {
    "lstm": f"{LSTM}, hidden_size=None, layout=0",
    "gru": f"{STEPS}, direction='forward', {FUNCTIONS}, linear_before_reset=False, hidden_size=None, layout=0",
    "rnn": f"{STEPS}, direction='forward', {FUNCTIONS}, hidden_size=None, layout=0",
    **{f"conv{r}d": CONV for r in (1, 2, 3)},
    **{f"conv_transpose{r}d": TRANSPOSE for r in (1, 2, 3)},
    **{f"max_pool{r}d": f"{POOL}, return_indices=False" for r in (1, 2, 3)},
    **{f"avg_pool{r}d": f"{POOL}, count_include_pad=False" for r in (1, 2, 3)},
    **{f"lp_pool{r}d": LP_POOL for r in (1, 2, 3)},
    **{f"adaptive_{m}_pool{r}d": "x, output_size" for m in ("max", "avg") for r in (1, 2, 3)},
    **{f"max_unpool{r}d": "x, indices, kernel, *, stride=1, pads=0, output_shape=None" for r in (1, 2, 3)},
    "global_max_pool": "x",
    "global_avg_pool": "x",
    "global_lp_pool": "x, *, p=2",
    "spatial_pyramid_pool": "x, *, levels=(4, 2, 1), mode='max'",
    "flatten": "x, *, axis=1",
    "dense": "x, w, bias=None",
    "batch_norm": "x, scale, bias, mean, var, *, epsilon=1e-05",
    "layer_norm": "x, scale=None, bias=None, *, axis=-1, epsilon=1e-05",
    "instance_norm": "x, scale, bias, *, epsilon=1e-05",
    "group_norm": "x, scale, bias, *, groups, epsilon=1e-05",
    "local_response_norm": "x, *, size, alpha=0.0001, beta=0.75, bias=1.0",
    "leaky_relu": "x, *, alpha=0.01",
    "prelu": "x, slope",
    "elu": "x, *, alpha=1.0",
    "selu": "x, *, alpha=1.6732631921768188, gamma=1.0507010221481323",
    "celu": "x, *, alpha=1.0",
    "gelu": "x, *, approximate='none'",
    "hard_sigmoid": "x, *, alpha=0.2, beta=0.5",
    "clip": "x, min=None, max=None",
    "softmax": "x, *, axis=-1",
    "log_softmax": "x, *, axis=-1",
}


@each_function
def test_signatures(name):
    """The same pattern everywhere: ONNX's names and defaults, then threads and out."""
    expected = SIGNATURES.get(name, "x")
    expected = f"({expected}, threads=None, out=None)" if "*" in expected else f"({expected}, *, threads=None, out=None)"
    signature = inspect.signature(getattr(F, name))
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(bare)) == expected
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    assert signature.return_annotation is not inspect.Signature.empty


@each_function
def test_documented(name):
    text = inspect.getdoc(getattr(F, name))
    assert text, "no docstring"
    assert re.search(r"ONNX|PyTorch|arXiv|See `", text), "does not say whose definition it follows"


def test_denormals_are_numbers(isa):
    """No kernel may flush them, nor leave the processor in a state that does."""
    tiny = np.float32([1e-40, -1e-40, 3e-45, -3e-45] * 5)
    assert_same_bits(both(F.clip, tiny, -1.0, 1.0), tiny)
    np.testing.assert_array_equal(both(F.relu, tiny), np.maximum(tiny, 0))
    np.testing.assert_array_equal(both(F.max_pool1d, tiny.reshape(1, 1, -1), 2, stride=2), tiny.reshape(1, 1, -1)[..., ::2])
    x, w = np.full((1, 4, 3, 3), 1e-40, np.float32), np.full((17, 4, 3, 3), 2.0**60, np.float32)
    exact = np.float64(x[0, 0, 0, 0]) * 2.0**60
    np.testing.assert_allclose(both(F.conv2d, x, w), 36 * exact, rtol=1e-5)
    np.testing.assert_allclose(both(F.conv2d, x, w[:4, :1], groups=4), 9 * exact, rtol=1e-5)
    np.testing.assert_allclose(both(F.dense, x.reshape(1, 36), w[:, 0].reshape(17, 9).repeat(4, 1)), 36 * exact, rtol=1e-5)
    np.testing.assert_allclose(both(F.avg_pool2d, x, 3), x[:, :, :1, :1], rtol=1e-4)
    assert np.float32(1e-40) * np.float32(0.5) != 0


def test_parameters_may_change_between_calls():
    """Launches are kept by shapes alone: values of an earlier call must not come back."""
    x, scale, bias, mean = normal(2, 5, 4, 4), normal(5), normal(5), normal(5)
    var = np.abs(normal(5)) + 1
    calls = {
        "batch_norm": lambda p: F.batch_norm(x, p, bias, mean, var),
        "instance_norm": lambda p: F.instance_norm(x, p, bias),
        "group_norm": lambda p: F.group_norm(x, p, bias, groups=5),
        "layer_norm": lambda p: F.layer_norm(x.transpose(0, 2, 3, 1), p),
        "layer_norm, one value": lambda p: F.layer_norm(x.transpose(0, 2, 3, 1), p[:1]),
        "prelu": lambda p: F.prelu(x, p.reshape(5, 1, 1)),
        "prelu, one value": lambda p: F.prelu(x, p[:1]),
    }
    for name, call in calls.items():
        p = scale.copy()
        first = call(p)
        p *= 2  # in place: the same array
        second = call(p)
        p /= 2
        assert not np.array_equal(first, second), name
        np.testing.assert_array_equal(call(p), first, err_msg=name)
        np.testing.assert_array_equal(call(scale.copy()), first, err_msg=name)
