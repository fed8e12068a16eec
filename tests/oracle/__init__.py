"""The oracle: every layer as plain NumPy in float64, written from the ONNX specification and nothing else.

It decides what is right, so it is written to be read: loops over windows and taps, no tricks, and its own padding
arithmetic (`geometry.py`), apart from the engine's. Every function takes arrays of any real dtype, computes and returns
float64, and handles any number of spatial axes. Bad geometry raises ValueError.
"""

from .activation import (
    celu,
    clip,
    elu,
    gelu,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    log_softmax,
    mish,
    prelu,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    tanh,
)
from .closeness import EXACT, ROUNDING, assert_close, assert_same_bits
from .conv import conv, conv_transpose
from .dense import dense, dropout, flatten
from .norm import batch_norm, group_norm, instance_norm, layer_norm, local_response_norm, rms_norm
from .pool import (
    adaptive_avg_pool,
    adaptive_max_pool,
    avg_pool,
    global_avg_pool,
    global_lp_pool,
    global_max_pool,
    lp_pool,
    max_pool,
    max_unpool,
    spatial_pyramid_pool,
)
from .recurrent import recurrent

__all__ = [
    "EXACT",
    "ROUNDING",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "assert_close",
    "assert_same_bits",
    "avg_pool",
    "batch_norm",
    "celu",
    "clip",
    "conv",
    "conv_transpose",
    "dense",
    "dropout",
    "elu",
    "flatten",
    "gelu",
    "global_avg_pool",
    "global_lp_pool",
    "global_max_pool",
    "group_norm",
    "hard_sigmoid",
    "hard_swish",
    "instance_norm",
    "layer_norm",
    "leaky_relu",
    "local_response_norm",
    "log_softmax",
    "lp_pool",
    "max_pool",
    "max_unpool",
    "mish",
    "prelu",
    "recurrent",
    "relu",
    "rms_norm",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "spatial_pyramid_pool",
    "tanh",
]
