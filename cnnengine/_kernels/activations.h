/* The activations that kernels fuse: the one list of them.
 *
 * Enum, names (`cnnengine._kernels.ACTIVATIONS`), the formula of a register and the choice of a loop all come from here, so a new
 * one is a row below, its operator in cnnengine/ops, which names it in an `Activation`, and, if it is public, its function. Numbers
 * are the rows' places; what was compiled with another list is told by the build tag.
 *
 * A row of ONE is ONE(NUMBER, name, formula): the formula gives the result for a register `x` of floats; it may use the floats
 * `alpha` and `beta`, the register `zero`, whatever simd.h has, and the functions of tiles/vector.pyx, whose names in C are those
 * that they have there. NaN gives NaN unless the row says otherwise. The loops around a formula are an instance for this row.
 * A row of FOUR is FOUR(NUMBER, name, call): the call reads `registers` (4 or 1) registers from the array `x` and writes them to
 * `y`, its steps interleaved, for formulas whose latency a processor does not hide by itself. */
#ifndef CNNENGINE_ACTIVATIONS_H
#define CNNENGINE_ACTIVATIONS_H
#include <stddef.h>

#define ACTIVATIONS(ONE, FOUR)                                                                                                 \
    /* between alpha and beta; Relu is (0, inf) */                                                                             \
    ONE(ACT_CLIP, "clip", vmin_keep(vmax_keep(x, alpha), beta))                                                                \
    /* alpha * x below zero */                                                                                                 \
    ONE(ACT_LEAKY_RELU, "leaky_relu", vselect(vlt(x, zero), x * alpha, x))                                                     \
    ONE(ACT_SIGMOID, "sigmoid", vsigmoid(x))                                                                                   \
    ONE(ACT_TANH, "tanh", vtanh(x))                                                                                            \
    FOUR(ACT_SILU, "silu", vsilu(x, y, registers))                                                                             \
    /* max(0, min(1, alpha * x + beta)) */                                                                                     \
    ONE(ACT_HARD_SIGMOID, "hard_sigmoid", vmax_keep(vmin_keep(x * alpha + beta, 1.0f), 0.0f))                                  \
    ONE(ACT_HARD_SWISH, "hard_swish", x * vmin_keep(vmax_keep(x * 0.16666666666666666f + 0.5f, 0.0f), 1.0f))                   \
    /* alpha * (exp(x) - 1) below zero */                                                                                      \
    ONE(ACT_ELU, "elu", vselect(vlt(x, zero), expm1_negative(vmin_keep(x, 0.0f)) * alpha, x))                                  \
    /* the same times beta, which is gamma */                                                                                  \
    ONE(ACT_SELU, "selu", vselect(vlt(x, zero), expm1_negative(vmin_keep(x, 0.0f)) * alpha, x) * beta)                         \
    ONE(ACT_CELU, "celu", vselect(vlt(x, zero), expm1_negative(vmin_keep(x / vset(alpha), 0.0f)) * alpha, x))                  \
    /* by erf */                                                                                                               \
    FOUR(ACT_GELU, "gelu", vgelu(x, y, registers))                                                                             \
    ONE(ACT_GELU_TANH, "gelu_tanh", vgelu_tanh(x))                                                                             \
    ONE(ACT_MISH, "mish", vmish(x))                                                                                            \
    ONE(ACT_SOFTPLUS, "softplus", vsoftplus(x))                                                                                \
    ONE(ACT_SOFTSIGN, "softsign", vsoftsign(x))                                                                                \
    ONE(ACT_EXP, "exp", vexp(x))                                                                                               \
    ONE(ACT_LOG, "log", vlog(x))                                                                                               \
    ONE(ACT_ERF, "erf", verf(x))                                                                                               \
    ONE(ACT_ABS, "abs", vf_abs(x))                                                                                             \
    ONE(ACT_NEG, "neg", vneg(x))                                                                                               \
    ONE(ACT_SQRT, "sqrt", vf_sqrt(x))                                                                                          \
    ONE(ACT_RECIPROCAL, "reciprocal", vset(1.0f) / x)                                                                          \
    ONE(ACT_SIGN, "sign", vselect(veq(x, zero), zero, vselect(veq(x, x), vcopysign(vset(1.0f), x), x)))                        \
    ONE(ACT_FLOOR, "floor", vfloor(x))                                                                                         \
    ONE(ACT_CEIL, "ceil", vceil(x))                                                                                            \
    /* half to even */                                                                                                         \
    ONE(ACT_ROUND, "round", vround(x))                                                                                         \
    ONE(ACT_THRESHOLDED_RELU, "thresholded_relu", vselect(vlt(vset(alpha), x), x, zero))                                       \
    ONE(ACT_SQUARE, "square", x * x)                                                                                           \
    /* x ** alpha */                                                                                                           \
    ONE(ACT_POW, "pow", vpow(x, vset(alpha)))                                                                                  \
    ONE(ACT_AFFINE, "affine", x * alpha + beta)                                                                                \
    /* x * sigmoid(alpha * x) */                                                                                               \
    ONE(ACT_SWISH, "swish", vswish(x, x * alpha))                                                                              \
    /* x + beta below -alpha, x - beta above alpha, else 0 */                                                                  \
    ONE(ACT_SHRINK, "shrink",                                                                                                  \
        vselect(vlt(x, vset(-alpha)), x + beta, vselect(vlt(vset(alpha), x), x - beta, vselect(veq(x, x), zero, x))))          \
    ONE(ACT_SIN, "sin", vsin(x))                                                                                               \
    ONE(ACT_COS, "cos", vcos(x))                                                                                               \
    ONE(ACT_TAN, "tan", vtan(x))                                                                                               \
    ONE(ACT_ASIN, "asin", vasin(x))                                                                                            \
    ONE(ACT_ACOS, "acos", vacos(x))                                                                                            \
    ONE(ACT_ATAN, "atan", vatan(x))                                                                                            \
    ONE(ACT_SINH, "sinh", vsinh(x))                                                                                            \
    ONE(ACT_COSH, "cosh", vcosh(x))                                                                                            \
    ONE(ACT_ASINH, "asinh", vasinh(x))                                                                                         \
    ONE(ACT_ACOSH, "acosh", vacosh(x))                                                                                         \
    ONE(ACT_ATANH, "atanh", vatanh(x))                                                                                         \
    /* as round, 0 for NaN: what quantising makes of a quotient */                                                             \
    ONE(ACT_WHOLE, "whole", vselect(veq(x, x), vround(x), zero))

#define ACTIVATION_NUMBER(number, name, formula) number,
enum { ACT_NONE, ACTIVATIONS(ACTIVATION_NUMBER, ACTIVATION_NUMBER) ACT_END };

#define ACTIVATION_NAME(number, name, formula) case number: return name;
static inline const char *activation_name(int number)
{
    switch (number) {
        ACTIVATIONS(ACTIVATION_NAME, ACTIVATION_NAME)
    }
    return NULL;
}

/* ---- for tiles/vector.pyx alone; KIND is a constant in the first two ---- */
#define NO_ACTIVATION(number, name, formula)
#define ACTIVATION_FORMULA(number, name, formula) kind == number ? (vf)(formula) :
#define ACTIVATION_CALL(number, name, call) kind == number ? (call) :
#define ACTIVATION_OF(KIND, X, ALPHA, BETA)                                                                                    \
    ({                                                                                                                         \
        const int kind = (KIND);                                                                                               \
        const vf x = (X), zero = vset(0.0f);                                                                                   \
        const float alpha = (ALPHA), beta = (BETA);                                                                            \
        (void)zero, (void)alpha, (void)beta;                                                                                   \
        ACTIVATIONS(ACTIVATION_FORMULA, NO_ACTIVATION) (vf)x;                                                                  \
    })
#define ACTIVATION_STEP(KIND, X, Y, REGISTERS)                                                                                 \
    ({                                                                                                                         \
        const int kind = (KIND), registers = (REGISTERS);                                                                      \
        const float *x = (X);                                                                                                  \
        float *y = (Y);                                                                                                        \
        ACTIVATIONS(NO_ACTIVATION, ACTIVATION_CALL) (void)0;                                                                   \
    })
/* the loop of an activation, else OTHER */
#define ACTIVATION_ONE(number, name, formula) case number: loop_of_one(number, from, to, count, alpha, beta); break;
#define ACTIVATION_FOUR(number, name, call) case number: loop_of_four(number, from, to, count); break;
#define ACTIVATE(KIND, X, Y, N, ALPHA, BETA, OTHER)                                                                            \
    do {                                                                                                                       \
        const float *from = (X);                                                                                               \
        float *to = (Y);                                                                                                       \
        const Py_ssize_t count = (N);                                                                                          \
        const float alpha = (ALPHA), beta = (BETA);                                                                            \
        switch (KIND) {                                                                                                        \
            ACTIVATIONS(ACTIVATION_ONE, ACTIVATION_FOUR)                                                                       \
            default: OTHER(from, to, count);                                                                                   \
        }                                                                                                                      \
    } while (0)
#endif
