# Tiles of recurrent layers of one instruction set: pointers only.

# y[panels * 2 * lanes] += w @ x for one vector x of k floats, over `panels` panels [k][2 * lanes] of weights, one behind another.
# Each sum runs over k in order. Backwards takes the last panels first, which changes no sum.
ctypedef void (*vector_product_fn)(const float *x, const float *w, Py_ssize_t k, Py_ssize_t panels, int backwards, float *y) noexcept nogil
# One step of n (whole registers) hidden units of an LSTM with Sigmoid, Tanh, Tanh. `gates` holds the four sums of gates i, o, f and c,
# n floats apart; c and h are the state, read and written.
ctypedef void (*lstm_fn)(const float *gates, Py_ssize_t n, float *c, float *h) noexcept nogil
# The same of a GRU with Sigmoid, Tanh that is linear before its reset: `gates` holds the sums of z, r and, of x alone, h; `again` the
# sums of h over the state.
ctypedef void (*gru_fn)(const float *gates, const float *again, Py_ssize_t n, float *h) noexcept nogil

cdef struct RecurrentTiles:
    int lanes
    vector_product_fn vector_product
    lstm_fn lstm
    gru_fn gru
