# An activation as kernels take it: a clip in registers, anything else where a row is still in the first-level cache.

from libc.math cimport INFINITY

from cnnengine._kernels.table cimport ACT_CLIP, ACT_NONE

cdef struct activation_t:
    int kind                            # ACT_NONE when the clip below does all of it
    float alpha, beta
    float low, high                     # clip applied in registers


cdef inline activation_t activation_of(object activation) except *:
    """From an (kind, alpha, beta) tuple, an operator.Activation or None."""
    from cnnengine._kernels import ACTIVATIONS

    cdef activation_t a
    a.kind = ACT_NONE
    a.alpha = a.beta = 0
    a.low = -INFINITY
    a.high = INFINITY
    if activation is None:
        return a
    code = ACTIVATIONS[activation.kind]
    if code == ACT_CLIP:
        a.low = activation.alpha
        a.high = activation.beta
    else:
        a.kind = code
        a.alpha = activation.alpha
        a.beta = activation.beta
    return a
