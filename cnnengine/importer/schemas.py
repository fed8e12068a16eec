"""What ONNX says of the operators of `cnnengine.ops.INDEX` at their versions: reading a model need not import onnx.

Made by tools/make_schemas.py; the tests compare it with the onnx package. A line is: version, fewest and most inputs,
fewest and most outputs (* for any number), "deprecated" where it is, then the attributes as name:type (AttributeProto's numbers),
required ones with a !.
"""

from __future__ import annotations

OPSET = 28
"""The newest opset that is told here; models of newer ones are judged by the onnx package."""
IR_VERSION = 14

SCHEMAS: dict[str, tuple[str, ...]] = {
    "Abs": (
        "1 1 1 1 1 consumed_inputs:7",
        "6 1 1 1 1",
        "13 1 1 1 1",
    ),
    "Acos": (
        "7 1 1 1 1",
        "22 1 1 1 1",
    ),
    "Acosh": (
        "9 1 1 1 1",
        "22 1 1 1 1",
    ),
    "Add": (
        "1 2 2 1 1 axis:2 broadcast:2 consumed_inputs:7",
        "6 2 2 1 1 axis:2 broadcast:2",
        "7 2 2 1 1",
        "13 2 2 1 1",
        "14 2 2 1 1",
    ),
    "AffineGrid": (
        "20 2 2 1 1 align_corners:2",
    ),
    "And": (
        "1 2 2 1 1 axis:2 broadcast:2",
        "7 2 2 1 1",
    ),
    "ArgMax": (
        "1 1 1 1 1 axis:2 keepdims:2",
        "11 1 1 1 1 axis:2 keepdims:2",
        "12 1 1 1 1 axis:2 keepdims:2 select_last_index:2",
        "13 1 1 1 1 axis:2 keepdims:2 select_last_index:2",
    ),
    "ArgMin": (
        "1 1 1 1 1 axis:2 keepdims:2",
        "11 1 1 1 1 axis:2 keepdims:2",
        "12 1 1 1 1 axis:2 keepdims:2 select_last_index:2",
        "13 1 1 1 1 axis:2 keepdims:2 select_last_index:2",
    ),
    "Asin": (
        "7 1 1 1 1",
        "22 1 1 1 1",
    ),
    "Asinh": (
        "9 1 1 1 1",
        "22 1 1 1 1",
    ),
    "Atan": (
        "7 1 1 1 1",
        "22 1 1 1 1",
    ),
    "Atanh": (
        "9 1 1 1 1",
        "22 1 1 1 1",
    ),
    "AveragePool": (
        "1 1 1 1 1 auto_pad:3 kernel_shape!:7 pads:7 strides:7",
        "7 1 1 1 1 auto_pad:3 count_include_pad:2 kernel_shape!:7 pads:7 strides:7",
        "10 1 1 1 1 auto_pad:3 ceil_mode:2 count_include_pad:2 kernel_shape!:7 pads:7 strides:7",
        "11 1 1 1 1 auto_pad:3 ceil_mode:2 count_include_pad:2 kernel_shape!:7 pads:7 strides:7",
        "19 1 1 1 1 auto_pad:3 ceil_mode:2 count_include_pad:2 dilations:7 kernel_shape!:7 pads:7 strides:7",
        "22 1 1 1 1 auto_pad:3 ceil_mode:2 count_include_pad:2 dilations:7 kernel_shape!:7 pads:7 strides:7",
    ),
    "BatchNormalization": (
        "1 5 5 1 5 consumed_inputs!:7 epsilon:1 is_test:2 momentum:1 spatial:2",
        "6 5 5 1 5 epsilon:1 is_test:2 momentum:1 spatial:2",
        "7 5 5 1 5 epsilon:1 momentum:1 spatial:2",
        "9 5 5 1 5 epsilon:1 momentum:1",
        "14 5 5 1 3 epsilon:1 momentum:1 training_mode:2",
        "15 5 5 1 3 epsilon:1 momentum:1 training_mode:2",
    ),
    "BitCast": (
        "26 1 1 1 1 to!:2",
    ),
    "BitShift": (
        "11 2 2 1 1 direction!:3",
        "28 2 2 1 1 direction!:3",
    ),
    "BitwiseAnd": (
        "18 2 2 1 1",
    ),
    "BitwiseNot": (
        "18 1 1 1 1",
    ),
    "BitwiseOr": (
        "18 2 2 1 1",
    ),
    "BitwiseXor": (
        "18 2 2 1 1",
    ),
    "Cast": (
        "1 1 1 1 1 to!:3",
        "6 1 1 1 1 to!:2",
        "9 1 1 1 1 to!:2",
        "13 1 1 1 1 to!:2",
        "19 1 1 1 1 saturate:2 to!:2",
        "21 1 1 1 1 saturate:2 to!:2",
        "23 1 1 1 1 saturate:2 to!:2",
        "24 1 1 1 1 round_mode:3 saturate:2 to!:2",
        "25 1 1 1 1 round_mode:3 saturate:2 to!:2",
        "28 1 1 1 1 round_mode:3 saturate:2 to!:2",
    ),
    "CastLike": (
        "15 2 2 1 1",
        "19 2 2 1 1 saturate:2",
        "21 2 2 1 1 saturate:2",
        "23 2 2 1 1 saturate:2",
        "24 2 2 1 1 round_mode:3 saturate:2",
        "25 2 2 1 1 round_mode:3 saturate:2",
    ),
    "Ceil": (
        "1 1 1 1 1 consumed_inputs:7",
        "6 1 1 1 1",
        "13 1 1 1 1",
    ),
    "Celu": (
        "12 1 1 1 1 alpha:1",
        "28 1 1 1 1 alpha:1",
    ),
    "Clip": (
        "1 1 1 1 1 consumed_inputs:7 max:1 min:1",
        "6 1 1 1 1 max:1 min:1",
        "11 1 3 1 1",
        "12 1 3 1 1",
        "13 1 3 1 1",
    ),
    "Col2Im": (
        "18 3 3 1 1 dilations:7 pads:7 strides:7",
    ),
    "Compress": (
        "9 2 2 1 1 axis:2",
        "11 2 2 1 1 axis:2",
        "28 2 2 1 1 axis:2",
    ),
    "Concat": (
        "1 1 * 1 1 axis:2",
        "4 1 * 1 1 axis!:2",
        "11 1 * 1 1 axis!:2",
        "13 1 * 1 1 axis!:2",
    ),
    "ConcatFromSequence": (
        "11 1 1 1 1 axis!:2 new_axis:2",
    ),
    "Constant": (
        "1 0 0 1 1 value!:4",
        "9 0 0 1 1 value!:4",
        "11 0 0 1 1 sparse_value:11 value:4",
        "12 0 0 1 1 sparse_value:11 value:4 value_float:1 value_floats:6 value_int:2 value_ints:7 value_string:3 "
        "value_strings:8",
        "13 0 0 1 1 sparse_value:11 value:4 value_float:1 value_floats:6 value_int:2 value_ints:7 value_string:3 "
        "value_strings:8",
        "19 0 0 1 1 sparse_value:11 value:4 value_float:1 value_floats:6 value_int:2 value_ints:7 value_string:3 "
        "value_strings:8",
        "21 0 0 1 1 sparse_value:11 value:4 value_float:1 value_floats:6 value_int:2 value_ints:7 value_string:3 "
        "value_strings:8",
        "23 0 0 1 1 sparse_value:11 value:4 value_float:1 value_floats:6 value_int:2 value_ints:7 value_string:3 "
        "value_strings:8",
        "24 0 0 1 1 sparse_value:11 value:4 value_float:1 value_floats:6 value_int:2 value_ints:7 value_string:3 "
        "value_strings:8",
        "25 0 0 1 1 sparse_value:11 value:4 value_float:1 value_floats:6 value_int:2 value_ints:7 value_string:3 "
        "value_strings:8",
    ),
    "ConstantOfShape": (
        "9 1 1 1 1 value:4",
        "20 1 1 1 1 value:4",
        "21 1 1 1 1 value:4",
        "23 1 1 1 1 value:4",
        "24 1 1 1 1 value:4",
        "25 1 1 1 1 value:4",
    ),
    "Conv": (
        "1 2 3 1 1 auto_pad:3 dilations:7 group:2 kernel_shape:7 pads:7 strides:7",
        "11 2 3 1 1 auto_pad:3 dilations:7 group:2 kernel_shape:7 pads:7 strides:7",
        "22 2 3 1 1 auto_pad:3 dilations:7 group:2 kernel_shape:7 pads:7 strides:7",
    ),
    "ConvInteger": (
        "10 2 4 1 1 auto_pad:3 dilations:7 group:2 kernel_shape:7 pads:7 strides:7",
    ),
    "ConvTranspose": (
        "1 2 3 1 1 auto_pad:3 dilations:7 group:2 kernel_shape:7 output_padding:7 output_shape:7 pads:7 strides:7",
        "11 2 3 1 1 auto_pad:3 dilations:7 group:2 kernel_shape:7 output_padding:7 output_shape:7 pads:7 strides:7",
        "22 2 3 1 1 auto_pad:3 dilations:7 group:2 kernel_shape:7 output_padding:7 output_shape:7 pads:7 strides:7",
    ),
    "Cos": (
        "7 1 1 1 1",
        "22 1 1 1 1",
    ),
    "Cosh": (
        "9 1 1 1 1",
        "22 1 1 1 1",
    ),
    "CumProd": (
        "26 2 2 1 1 exclusive:2 reverse:2",
    ),
    "CumSum": (
        "11 2 2 1 1 exclusive:2 reverse:2",
        "14 2 2 1 1 exclusive:2 reverse:2",
    ),
    "DFT": (
        "17 1 2 1 1 axis:2 inverse:2 onesided:2",
        "20 1 3 1 1 inverse:2 onesided:2",
    ),
    "DeformConv": (
        "19 3 5 1 1 dilations:7 group:2 kernel_shape:7 offset_group:2 pads:7 strides:7",
        "22 3 5 1 1 dilations:7 group:2 kernel_shape:7 offset_group:2 pads:7 strides:7",
    ),
    "DepthToSpace": (
        "1 1 1 1 1 blocksize!:2",
        "11 1 1 1 1 blocksize!:2 mode:3",
        "13 1 1 1 1 blocksize!:2 mode:3",
        "28 1 1 1 1 blocksize!:2 mode:3",
    ),
    "DequantizeLinear": (
        "10 2 3 1 1",
        "13 2 3 1 1 axis:2",
        "19 2 3 1 1 axis:2",
        "21 2 3 1 1 axis:2 block_size:2",
        "23 2 3 1 1 axis:2 block_size:2 output_dtype:2",
        "24 2 3 1 1 axis:2 block_size:2 output_dtype:2",
        "25 2 3 1 1 axis:2 block_size:2 output_dtype:2",
        "28 2 3 1 1 axis:2 block_size:2 output_dtype:2",
    ),
    "Det": (
        "11 1 1 1 1",
        "22 1 1 1 1",
    ),
    "Div": (
        "1 2 2 1 1 axis:2 broadcast:2 consumed_inputs:7",
        "6 2 2 1 1 axis:2 broadcast:2",
        "7 2 2 1 1",
        "13 2 2 1 1",
        "14 2 2 1 1",
    ),
    "Dropout": (
        "1 1 1 1 2 consumed_inputs:7 is_test:2 ratio:1",
        "6 1 1 1 2 is_test:2 ratio:1",
        "7 1 1 1 2 ratio:1",
        "10 1 1 1 2 ratio:1",
        "12 1 3 1 2 seed:2",
        "13 1 3 1 2 seed:2",
        "22 1 3 1 2 seed:2",
    ),
    "Einsum": (
        "12 1 * 1 1 equation!:3",
        "28 1 * 1 1 equation!:3",
    ),
    "Elu": (
        "1 1 1 1 1 alpha:1 consumed_inputs:7",
        "6 1 1 1 1 alpha:1",
        "22 1 1 1 1 alpha:1",
    ),
    "Equal": (
        "1 2 2 1 1 axis:2 broadcast:2",
        "7 2 2 1 1",
        "11 2 2 1 1",
        "13 2 2 1 1",
        "19 2 2 1 1",
    ),
    "Erf": (
        "9 1 1 1 1",
        "13 1 1 1 1",
    ),
    "Exp": (
        "1 1 1 1 1 consumed_inputs:7",
        "6 1 1 1 1",
        "13 1 1 1 1",
    ),
    "Expand": (
        "8 2 2 1 1",
        "13 2 2 1 1",
    ),
    "EyeLike": (
        "9 1 1 1 1 dtype:2 k:2",
        "22 1 1 1 1 dtype:2 k:2",
    ),
    "Flatten": (
        "1 1 1 1 1 axis:2",
        "9 1 1 1 1 axis:2",
        "11 1 1 1 1 axis:2",
        "13 1 1 1 1 axis:2",
        "21 1 1 1 1 axis:2",
        "23 1 1 1 1 axis:2",
        "24 1 1 1 1 axis:2",
        "25 1 1 1 1 axis:2",
    ),
    "Floor": (
        "1 1 1 1 1 consumed_inputs:7",
        "6 1 1 1 1",
        "13 1 1 1 1",
    ),
    "GRU": (
        "1 3 6 2 2 activation_alpha:6 activation_beta:6 activations:8 clip:1 direction:3 hidden_size:2 output_sequence:2",
        "3 3 6 0 2 activation_alpha:6 activation_beta:6 activations:8 clip:1 direction:3 hidden_size:2 "
        "linear_before_reset:2 output_sequence:2",
        "7 3 6 0 2 activation_alpha:6 activation_beta:6 activations:8 clip:1 direction:3 hidden_size:2 linear_before_reset:2",
        "14 3 6 0 2 activation_alpha:6 activation_beta:6 activations:8 clip:1 direction:3 hidden_size:2 layout:2 "
        "linear_before_reset:2",
        "22 3 6 0 2 activation_alpha:6 activation_beta:6 activations:8 clip:1 direction:3 hidden_size:2 layout:2 "
        "linear_before_reset:2",
    ),
    "Gather": (
        "1 2 2 1 1 axis:2",
        "11 2 2 1 1 axis:2",
        "13 2 2 1 1 axis:2",
    ),
    "GatherElements": (
        "11 2 2 1 1 axis:2",
        "13 2 2 1 1 axis:2",
    ),
    "GatherND": (
        "11 2 2 1 1",
        "12 2 2 1 1 batch_dims:2",
        "13 2 2 1 1 batch_dims:2",
    ),
    "Gelu": (
        "20 1 1 1 1 approximate:3",
    ),
    "Gemm": (
        "1 3 3 1 1 alpha:1 beta:1 broadcast:2 transA:2 transB:2",
        "6 3 3 1 1 alpha:1 beta:1 broadcast:2 transA:2 transB:2",
        "7 3 3 1 1 alpha:1 beta:1 transA:2 transB:2",
        "9 3 3 1 1 alpha:1 beta:1 transA:2 transB:2",
        "11 2 3 1 1 alpha:1 beta:1 transA:2 transB:2",
        "13 2 3 1 1 alpha:1 beta:1 transA:2 transB:2",
    ),
    "GlobalAveragePool": (
        "1 1 1 1 1",
        "22 1 1 1 1",
    ),
    "GlobalLpPool": (
        "1 1 1 1 1 p:1",
        "2 1 1 1 1 p:2",
        "22 1 1 1 1 p:2",
    ),
    "GlobalMaxPool": (
        "1 1 1 1 1",
        "22 1 1 1 1",
    ),
    "Greater": (
        "1 2 2 1 1 axis:2 broadcast:2",
        "7 2 2 1 1",
        "9 2 2 1 1",
        "13 2 2 1 1",
    ),
    "GreaterOrEqual": (
        "12 2 2 1 1",
        "16 2 2 1 1",
    ),
    "GridSample": (
        "16 2 2 1 1 align_corners:2 mode:3 padding_mode:3",
        "20 2 2 1 1 align_corners:2 mode:3 padding_mode:3",
        "22 2 2 1 1 align_corners:2 mode:3 padding_mode:3",
    ),
    "GroupNormalization": (
        "18 3 3 1 1 deprecated epsilon:1 num_groups!:2",
        "21 3 3 1 1 epsilon:1 num_groups!:2 stash_type:2",
    ),
    "HardSigmoid": (
        "1 1 1 1 1 alpha:1 beta:1 consumed_inputs:7",
        "6 1 1 1 1 alpha:1 beta:1",
        "22 1 1 1 1 alpha:1 beta:1",
    ),
    "HardSwish": (
        "14 1 1 1 1",
        "22 1 1 1 1",
    ),
    "Hardmax": (
        "1 1 1 1 1 axis:2",
        "11 1 1 1 1 axis:2",
        "13 1 1 1 1 axis:2",
    ),
    "Identity": (
        "1 1 1 1 1",
        "13 1 1 1 1",
        "14 1 1 1 1",
        "16 1 1 1 1",
        "19 1 1 1 1",
        "21 1 1 1 1",
        "23 1 1 1 1",
        "24 1 1 1 1",
        "25 1 1 1 1",
    ),
    "If": (
        "1 1 1 1 * else_branch!:5 then_branch!:5",
        "11 1 1 1 * else_branch!:5 then_branch!:5",
        "13 1 1 1 * else_branch!:5 then_branch!:5",
        "16 1 1 1 * else_branch!:5 then_branch!:5",
        "19 1 1 1 * else_branch!:5 then_branch!:5",
        "21 1 1 1 * else_branch!:5 then_branch!:5",
        "23 1 1 1 * else_branch!:5 then_branch!:5",
        "24 1 1 1 * else_branch!:5 then_branch!:5",
        "25 1 1 1 * else_branch!:5 then_branch!:5",
    ),
    "ImageDecoder": (
        "20 1 1 1 1 pixel_format:3",
    ),
    "InstanceNormalization": (
        "1 3 3 1 1 consumed_inputs:7 epsilon:1",
        "6 3 3 1 1 epsilon:1",
        "22 3 3 1 1 epsilon:1",
    ),
    "IsInf": (
        "10 1 1 1 1 detect_negative:2 detect_positive:2",
        "20 1 1 1 1 detect_negative:2 detect_positive:2",
    ),
    "IsNaN": (
        "9 1 1 1 1",
        "13 1 1 1 1",
        "20 1 1 1 1",
    ),
    "LRN": (
        "1 1 1 1 1 alpha:1 beta:1 bias:1 size!:2",
        "13 1 1 1 1 alpha:1 beta:1 bias:1 size!:2",
    ),
    "LSTM": (
        "1 3 8 0 3 activation_alpha:6 activation_beta:6 activations:8 clip:1 direction:3 hidden_size:2 input_forget:2 "
        "output_sequence:2",
        "7 3 8 0 3 activation_alpha:6 activation_beta:6 activations:8 clip:1 direction:3 hidden_size:2 input_forget:2",
        "14 3 8 0 3 activation_alpha:6 activation_beta:6 activations:8 clip:1 direction:3 hidden_size:2 input_forget:2 layout:2",
        "22 3 8 0 3 activation_alpha:6 activation_beta:6 activations:8 clip:1 direction:3 hidden_size:2 input_forget:2 layout:2",
    ),
    "LayerNormalization": (
        "17 2 3 1 3 axis:2 epsilon:1 stash_type:2",
    ),
    "LeakyRelu": (
        "1 1 1 1 1 alpha:1 consumed_inputs:7",
        "6 1 1 1 1 alpha:1",
        "16 1 1 1 1 alpha:1",
    ),
    "Less": (
        "1 2 2 1 1 axis:2 broadcast:2",
        "7 2 2 1 1",
        "9 2 2 1 1",
        "13 2 2 1 1",
    ),
    "LessOrEqual": (
        "12 2 2 1 1",
        "16 2 2 1 1",
    ),
    "Log": (
        "1 1 1 1 1 consumed_inputs:7",
        "6 1 1 1 1",
        "13 1 1 1 1",
    ),
    "LogSoftmax": (
        "1 1 1 1 1 axis:2",
        "11 1 1 1 1 axis:2",
        "13 1 1 1 1 axis:2",
    ),
    "Loop": (
        "1 3 * 1 * body!:5",
        "11 2 * 1 * body!:5",
        "13 2 * 1 * body!:5",
        "16 2 * 1 * body!:5",
        "19 2 * 1 * body!:5",
        "21 2 * 1 * body!:5",
        "23 2 * 1 * body!:5",
        "24 2 * 1 * body!:5",
        "25 2 * 1 * body!:5",
    ),
    "LpNormalization": (
        "1 1 1 1 1 axis:2 p:2",
        "22 1 1 1 1 axis:2 p:2",
    ),
    "LpPool": (
        "1 1 1 1 1 auto_pad:3 kernel_shape:7 p:1 pads:7 strides:7",
        "2 1 1 1 1 auto_pad:3 kernel_shape!:7 p:2 pads:7 strides:7",
        "11 1 1 1 1 auto_pad:3 kernel_shape!:7 p:2 pads:7 strides:7",
        "18 1 1 1 1 auto_pad:3 ceil_mode:2 dilations:7 kernel_shape!:7 p:2 pads:7 strides:7",
        "22 1 1 1 1 auto_pad:3 ceil_mode:2 dilations:7 kernel_shape!:7 p:2 pads:7 strides:7",
    ),
    "MatMul": (
        "1 2 2 1 1",
        "9 2 2 1 1",
        "13 2 2 1 1",
    ),
    "MatMulInteger": (
        "10 2 4 1 1",
    ),
    "Max": (
        "1 1 * 1 1 consumed_inputs:7",
        "6 1 * 1 1",
        "8 1 * 1 1",
        "12 1 * 1 1",
        "13 1 * 1 1",
    ),
    "MaxPool": (
        "1 1 1 1 1 auto_pad:3 kernel_shape!:7 pads:7 strides:7",
        "8 1 1 1 2 auto_pad:3 kernel_shape!:7 pads:7 storage_order:2 strides:7",
        "10 1 1 1 2 auto_pad:3 ceil_mode:2 dilations:7 kernel_shape!:7 pads:7 storage_order:2 strides:7",
        "11 1 1 1 2 auto_pad:3 ceil_mode:2 dilations:7 kernel_shape!:7 pads:7 storage_order:2 strides:7",
        "12 1 1 1 2 auto_pad:3 ceil_mode:2 dilations:7 kernel_shape!:7 pads:7 storage_order:2 strides:7",
        "22 1 1 1 2 auto_pad:3 ceil_mode:2 dilations:7 kernel_shape!:7 pads:7 storage_order:2 strides:7",
    ),
    "MaxUnpool": (
        "9 2 3 1 1 kernel_shape!:7 pads:7 strides:7",
        "11 2 3 1 1 kernel_shape!:7 pads:7 strides:7",
        "22 2 3 1 1 kernel_shape!:7 pads:7 strides:7",
    ),
    "Mean": (
        "1 1 * 1 1 consumed_inputs:7",
        "6 1 * 1 1",
        "8 1 * 1 1",
        "13 1 * 1 1",
    ),
    "MeanVarianceNormalization": (
        "9 1 1 1 1 axes:7",
        "13 1 1 1 1 axes:7",
    ),
    "Min": (
        "1 1 * 1 1 consumed_inputs:7",
        "6 1 * 1 1",
        "8 1 * 1 1",
        "12 1 * 1 1",
        "13 1 * 1 1",
    ),
    "Mish": (
        "18 1 1 1 1",
        "22 1 1 1 1",
    ),
    "Mod": (
        "10 2 2 1 1 fmod:2",
        "13 2 2 1 1 fmod:2",
        "28 2 2 1 1 fmod:2",
    ),
    "Mul": (
        "1 2 2 1 1 axis:2 broadcast:2 consumed_inputs:7",
        "6 2 2 1 1 axis:2 broadcast:2",
        "7 2 2 1 1",
        "13 2 2 1 1",
        "14 2 2 1 1",
    ),
    "Neg": (
        "1 1 1 1 1 consumed_inputs:7",
        "6 1 1 1 1",
        "13 1 1 1 1",
    ),
    "NegativeLogLikelihoodLoss": (
        "12 2 3 1 1 ignore_index:2 reduction:3",
        "13 2 3 1 1 ignore_index:2 reduction:3",
        "22 2 3 1 1 ignore_index:2 reduction:3",
    ),
    "NonMaxSuppression": (
        "10 2 5 1 1 center_point_box:2",
        "11 2 5 1 1 center_point_box:2",
    ),
    "NonZero": (
        "9 1 1 1 1",
        "13 1 1 1 1",
    ),
    "Not": (
        "1 1 1 1 1",
    ),
    "OneHot": (
        "9 3 3 1 1 axis:2",
        "11 3 3 1 1 axis:2",
        "28 3 3 1 1 axis:2",
    ),
    "Optional": (
        "15 0 1 1 1 type:13",
        "28 0 1 1 1 type:13",
    ),
    "OptionalGetElement": (
        "15 1 1 1 1",
        "18 1 1 1 1",
        "28 1 1 1 1",
    ),
    "OptionalHasElement": (
        "15 1 1 1 1",
        "18 0 1 1 1",
        "28 0 1 1 1",
    ),
    "Or": (
        "1 2 2 1 1 axis:2 broadcast:2",
        "7 2 2 1 1",
    ),
    "PRelu": (
        "1 2 2 1 1 consumed_inputs:7",
        "6 2 2 1 1",
        "7 2 2 1 1",
        "9 2 2 1 1",
        "16 2 2 1 1",
    ),
    "Pad": (
        "1 1 1 1 1 mode:3 paddings!:7 value:1",
        "2 1 1 1 1 mode:3 pads!:7 value:1",
        "11 2 3 1 1 mode:3",
        "13 2 3 1 1 mode:3",
        "18 2 4 1 1 mode:3",
        "19 2 4 1 1 mode:3",
        "21 2 4 1 1 mode:3",
        "23 2 4 1 1 mode:3",
        "24 2 4 1 1 mode:3",
        "25 2 4 1 1 mode:3",
    ),
    "Pow": (
        "1 2 2 1 1 axis:2 broadcast:2",
        "7 2 2 1 1",
        "12 2 2 1 1",
        "13 2 2 1 1",
        "15 2 2 1 1",
    ),
    "QLinearConv": (
        "10 8 9 1 1 auto_pad:3 dilations:7 group:2 kernel_shape:7 pads:7 strides:7",
    ),
    "QLinearMatMul": (
        "10 8 8 1 1",
        "21 8 8 1 1",
    ),
    "QuantizeLinear": (
        "10 2 3 1 1",
        "13 2 3 1 1 axis:2",
        "19 2 3 1 1 axis:2 saturate:2",
        "21 2 3 1 1 axis:2 block_size:2 output_dtype:2 saturate:2",
        "23 2 3 1 1 axis:2 block_size:2 output_dtype:2 precision:2 saturate:2",
        "24 2 3 1 1 axis:2 block_size:2 output_dtype:2 precision:2 saturate:2",
        "25 2 3 1 1 axis:2 block_size:2 output_dtype:2 precision:2 saturate:2",
        "28 2 3 1 1 axis:2 block_size:2 output_dtype:2 precision:2 saturate:2",
    ),
    "RMSNormalization": (
        "23 2 2 1 1 axis:2 epsilon:1 stash_type:2",
    ),
    "RNN": (
        "1 3 6 0 2 activation_alpha:6 activation_beta:6 activations:8 clip:1 direction:3 hidden_size:2 output_sequence:2",
        "7 3 6 0 2 activation_alpha:6 activation_beta:6 activations:8 clip:1 direction:3 hidden_size:2",
        "14 3 6 0 2 activation_alpha:6 activation_beta:6 activations:8 clip:1 direction:3 hidden_size:2 layout:2",
        "22 3 6 0 2 activation_alpha:6 activation_beta:6 activations:8 clip:1 direction:3 hidden_size:2 layout:2",
    ),
    "Range": (
        "11 3 3 1 1",
        "27 3 3 1 1 stash_type:2",
    ),
    "Reciprocal": (
        "1 1 1 1 1 consumed_inputs:7",
        "6 1 1 1 1",
        "13 1 1 1 1",
    ),
    "ReduceL1": (
        "1 1 1 1 1 axes:7 keepdims:2",
        "11 1 1 1 1 axes:7 keepdims:2",
        "13 1 1 1 1 axes:7 keepdims:2",
        "18 1 2 1 1 keepdims:2 noop_with_empty_axes:2",
    ),
    "ReduceL2": (
        "1 1 1 1 1 axes:7 keepdims:2",
        "11 1 1 1 1 axes:7 keepdims:2",
        "13 1 1 1 1 axes:7 keepdims:2",
        "18 1 2 1 1 keepdims:2 noop_with_empty_axes:2",
    ),
    "ReduceLogSum": (
        "1 1 1 1 1 axes:7 keepdims:2",
        "11 1 1 1 1 axes:7 keepdims:2",
        "13 1 1 1 1 axes:7 keepdims:2",
        "18 1 2 1 1 keepdims:2 noop_with_empty_axes:2",
        "28 1 2 1 1 keepdims:2 noop_with_empty_axes:2",
    ),
    "ReduceLogSumExp": (
        "1 1 1 1 1 axes:7 keepdims:2",
        "11 1 1 1 1 axes:7 keepdims:2",
        "13 1 1 1 1 axes:7 keepdims:2",
        "18 1 2 1 1 keepdims:2 noop_with_empty_axes:2",
        "28 1 2 1 1 keepdims:2 noop_with_empty_axes:2",
    ),
    "ReduceMax": (
        "1 1 1 1 1 axes:7 keepdims:2",
        "11 1 1 1 1 axes:7 keepdims:2",
        "12 1 1 1 1 axes:7 keepdims:2",
        "13 1 1 1 1 axes:7 keepdims:2",
        "18 1 2 1 1 keepdims:2 noop_with_empty_axes:2",
        "20 1 2 1 1 keepdims:2 noop_with_empty_axes:2",
    ),
    "ReduceMean": (
        "1 1 1 1 1 axes:7 keepdims:2",
        "11 1 1 1 1 axes:7 keepdims:2",
        "13 1 1 1 1 axes:7 keepdims:2",
        "18 1 2 1 1 keepdims:2 noop_with_empty_axes:2",
    ),
    "ReduceMin": (
        "1 1 1 1 1 axes:7 keepdims:2",
        "11 1 1 1 1 axes:7 keepdims:2",
        "12 1 1 1 1 axes:7 keepdims:2",
        "13 1 1 1 1 axes:7 keepdims:2",
        "18 1 2 1 1 keepdims:2 noop_with_empty_axes:2",
        "20 1 2 1 1 keepdims:2 noop_with_empty_axes:2",
    ),
    "ReduceProd": (
        "1 1 1 1 1 axes:7 keepdims:2",
        "11 1 1 1 1 axes:7 keepdims:2",
        "13 1 1 1 1 axes:7 keepdims:2",
        "18 1 2 1 1 keepdims:2 noop_with_empty_axes:2",
    ),
    "ReduceSum": (
        "1 1 1 1 1 axes:7 keepdims:2",
        "11 1 1 1 1 axes:7 keepdims:2",
        "13 1 2 1 1 keepdims:2 noop_with_empty_axes:2",
    ),
    "ReduceSumSquare": (
        "1 1 1 1 1 axes:7 keepdims:2",
        "11 1 1 1 1 axes:7 keepdims:2",
        "13 1 1 1 1 axes:7 keepdims:2",
        "18 1 2 1 1 keepdims:2 noop_with_empty_axes:2",
    ),
    "RegexFullMatch": (
        "20 1 1 1 1 pattern:3",
    ),
    "Relu": (
        "1 1 1 1 1 consumed_inputs:7",
        "6 1 1 1 1",
        "13 1 1 1 1",
        "14 1 1 1 1",
    ),
    "Reshape": (
        "1 1 1 1 1 consumed_inputs:7 shape:7",
        "5 2 2 1 1",
        "13 2 2 1 1",
        "14 2 2 1 1 allowzero:2",
        "19 2 2 1 1 allowzero:2",
        "21 2 2 1 1 allowzero:2",
        "23 2 2 1 1 allowzero:2",
        "24 2 2 1 1 allowzero:2",
        "25 2 2 1 1 allowzero:2",
    ),
    "Resize": (
        "10 2 2 1 1 mode:3",
        "11 3 4 1 1 coordinate_transformation_mode:3 cubic_coeff_a:1 exclude_outside:2 extrapolation_value:1 mode:3 "
        "nearest_mode:3",
        "13 1 4 1 1 coordinate_transformation_mode:3 cubic_coeff_a:1 exclude_outside:2 extrapolation_value:1 mode:3 "
        "nearest_mode:3",
        "18 1 4 1 1 antialias:2 axes:7 coordinate_transformation_mode:3 cubic_coeff_a:1 exclude_outside:2 "
        "extrapolation_value:1 keep_aspect_ratio_policy:3 mode:3 nearest_mode:3",
        "19 1 4 1 1 antialias:2 axes:7 coordinate_transformation_mode:3 cubic_coeff_a:1 exclude_outside:2 "
        "extrapolation_value:1 keep_aspect_ratio_policy:3 mode:3 nearest_mode:3",
    ),
    "ReverseSequence": (
        "10 2 2 1 1 batch_axis:2 time_axis:2",
        "28 2 2 1 1 batch_axis:2 time_axis:2",
    ),
    "RoiAlign": (
        "10 3 3 1 1 mode:3 output_height:2 output_width:2 sampling_ratio:2 spatial_scale:1",
        "16 3 3 1 1 coordinate_transformation_mode:3 mode:3 output_height:2 output_width:2 sampling_ratio:2 spatial_scale:1",
        "22 3 3 1 1 coordinate_transformation_mode:3 mode:3 output_height:2 output_width:2 sampling_ratio:2 spatial_scale:1",
    ),
    "Round": (
        "11 1 1 1 1",
        "22 1 1 1 1",
    ),
    "STFT": (
        "17 2 4 1 1 onesided:2",
    ),
    "Scan": (
        "8 2 * 1 * body!:5 directions:7 num_scan_inputs!:2",
        "9 1 * 1 * body!:5 num_scan_inputs!:2 scan_input_axes:7 scan_input_directions:7 scan_output_axes:7 "
        "scan_output_directions:7",
        "11 1 * 1 * body!:5 num_scan_inputs!:2 scan_input_axes:7 scan_input_directions:7 scan_output_axes:7 "
        "scan_output_directions:7",
        "16 1 * 1 * body!:5 num_scan_inputs!:2 scan_input_axes:7 scan_input_directions:7 scan_output_axes:7 "
        "scan_output_directions:7",
        "19 1 * 1 * body!:5 num_scan_inputs!:2 scan_input_axes:7 scan_input_directions:7 scan_output_axes:7 "
        "scan_output_directions:7",
        "21 1 * 1 * body!:5 num_scan_inputs!:2 scan_input_axes:7 scan_input_directions:7 scan_output_axes:7 "
        "scan_output_directions:7",
        "23 1 * 1 * body!:5 num_scan_inputs!:2 scan_input_axes:7 scan_input_directions:7 scan_output_axes:7 "
        "scan_output_directions:7",
        "24 1 * 1 * body!:5 num_scan_inputs!:2 scan_input_axes:7 scan_input_directions:7 scan_output_axes:7 "
        "scan_output_directions:7",
        "25 1 * 1 * body!:5 num_scan_inputs!:2 scan_input_axes:7 scan_input_directions:7 scan_output_axes:7 "
        "scan_output_directions:7",
    ),
    "Scatter": (
        "9 3 3 1 1 axis:2",
        "11 3 3 1 1 deprecated axis:2",
    ),
    "ScatterElements": (
        "11 3 3 1 1 axis:2",
        "13 3 3 1 1 axis:2",
        "16 3 3 1 1 axis:2 reduction:3",
        "18 3 3 1 1 axis:2 reduction:3",
    ),
    "ScatterND": (
        "11 3 3 1 1",
        "13 3 3 1 1",
        "16 3 3 1 1 reduction:3",
        "18 3 3 1 1 reduction:3",
    ),
    "Selu": (
        "1 1 1 1 1 alpha:1 consumed_inputs:7 gamma:1",
        "6 1 1 1 1 alpha:1 gamma:1",
        "22 1 1 1 1 alpha:1 gamma:1",
    ),
    "SequenceAt": (
        "11 2 2 1 1",
    ),
    "SequenceConstruct": (
        "11 1 * 1 1",
    ),
    "SequenceEmpty": (
        "11 0 0 1 1 dtype:2",
    ),
    "SequenceErase": (
        "11 1 2 1 1",
    ),
    "SequenceInsert": (
        "11 2 3 1 1",
    ),
    "SequenceLength": (
        "11 1 1 1 1",
    ),
    "SequenceMap": (
        "17 1 * 1 * body!:5",
    ),
    "Shape": (
        "1 1 1 1 1",
        "13 1 1 1 1",
        "15 1 1 1 1 end:2 start:2",
        "19 1 1 1 1 end:2 start:2",
        "21 1 1 1 1 end:2 start:2",
        "23 1 1 1 1 end:2 start:2",
        "24 1 1 1 1 end:2 start:2",
        "25 1 1 1 1 end:2 start:2",
    ),
    "Shrink": (
        "9 1 1 1 1 bias:1 lambd:1",
    ),
    "Sigmoid": (
        "1 1 1 1 1 consumed_inputs:7",
        "6 1 1 1 1",
        "13 1 1 1 1",
    ),
    "Sign": (
        "9 1 1 1 1",
        "13 1 1 1 1",
    ),
    "Sin": (
        "7 1 1 1 1",
        "22 1 1 1 1",
    ),
    "Sinh": (
        "9 1 1 1 1",
        "22 1 1 1 1",
    ),
    "Size": (
        "1 1 1 1 1",
        "13 1 1 1 1",
        "19 1 1 1 1",
        "21 1 1 1 1",
        "23 1 1 1 1",
        "24 1 1 1 1",
        "25 1 1 1 1",
    ),
    "Slice": (
        "1 1 1 1 1 axes:7 ends!:7 starts!:7",
        "10 3 5 1 1",
        "11 3 5 1 1",
        "13 3 5 1 1",
    ),
    "Softmax": (
        "1 1 1 1 1 axis:2",
        "11 1 1 1 1 axis:2",
        "13 1 1 1 1 axis:2",
    ),
    "SoftmaxCrossEntropyLoss": (
        "12 2 3 1 2 ignore_index:2 reduction:3",
        "13 2 3 1 2 ignore_index:2 reduction:3",
    ),
    "Softplus": (
        "1 1 1 1 1",
        "22 1 1 1 1",
    ),
    "Softsign": (
        "1 1 1 1 1",
        "22 1 1 1 1",
    ),
    "SpaceToDepth": (
        "1 1 1 1 1 blocksize!:2",
        "13 1 1 1 1 blocksize!:2",
        "28 1 1 1 1 blocksize!:2 mode:3",
    ),
    "Split": (
        "1 1 2 1 * axis:2 split:7",
        "2 1 1 1 * axis:2 split:7",
        "11 1 1 1 * axis:2 split:7",
        "13 1 2 1 * axis:2",
        "18 1 2 1 * axis:2 num_outputs:2",
    ),
    "SplitToSequence": (
        "11 1 2 1 1 axis:2 keepdims:2",
        "24 1 2 1 1 axis:2 keepdims:2",
    ),
    "Sqrt": (
        "1 1 1 1 1 consumed_inputs:7",
        "6 1 1 1 1",
        "13 1 1 1 1",
    ),
    "Squeeze": (
        "1 1 1 1 1 axes:7",
        "11 1 1 1 1 axes:7",
        "13 1 2 1 1",
        "21 1 2 1 1",
        "23 1 2 1 1",
        "24 1 2 1 1",
        "25 1 2 1 1",
    ),
    "StringConcat": (
        "20 2 2 1 1",
    ),
    "StringNormalizer": (
        "10 1 1 1 1 case_change_action:3 is_case_sensitive:2 locale:3 stopwords:8",
    ),
    "StringSplit": (
        "20 1 1 2 2 delimiter:3 maxsplit:2",
    ),
    "Sub": (
        "1 2 2 1 1 axis:2 broadcast:2 consumed_inputs:7",
        "6 2 2 1 1 axis:2 broadcast:2",
        "7 2 2 1 1",
        "13 2 2 1 1",
        "14 2 2 1 1",
    ),
    "Sum": (
        "1 1 * 1 1 consumed_inputs:7",
        "6 1 * 1 1",
        "8 1 * 1 1",
        "13 1 * 1 1",
    ),
    "Swish": (
        "24 1 1 1 1 alpha:1",
    ),
    "Tan": (
        "7 1 1 1 1",
        "22 1 1 1 1",
    ),
    "Tanh": (
        "1 1 1 1 1 consumed_inputs:7",
        "6 1 1 1 1",
        "13 1 1 1 1",
    ),
    "ThresholdedRelu": (
        "10 1 1 1 1 alpha:1",
        "22 1 1 1 1 alpha:1",
    ),
    "Tile": (
        "1 3 3 1 1",
        "6 2 2 1 1",
        "13 2 2 1 1",
    ),
    "TopK": (
        "1 1 1 2 2 axis:2 k!:2",
        "10 2 2 2 2 axis:2",
        "11 2 2 2 2 axis:2 largest:2 sorted:2",
        "24 2 2 2 2 axis:2 largest:2 sorted:2",
    ),
    "Transpose": (
        "1 1 1 1 1 perm:7",
        "13 1 1 1 1 perm:7",
        "21 1 1 1 1 perm:7",
        "23 1 1 1 1 perm:7",
        "24 1 1 1 1 perm:7",
        "25 1 1 1 1 perm:7",
    ),
    "Trilu": (
        "14 1 2 1 1 upper:2",
    ),
    "Unique": (
        "11 1 1 1 4 axis:2 sorted:2",
        "28 1 1 1 4 axis:2 sorted:2",
    ),
    "Unsqueeze": (
        "1 1 1 1 1 axes!:7",
        "11 1 1 1 1 axes!:7",
        "13 2 2 1 1",
        "21 2 2 1 1",
        "23 2 2 1 1",
        "24 2 2 1 1",
        "25 2 2 1 1",
    ),
    "Upsample": (
        "1 1 1 1 1 height_scale!:1 mode:3 width_scale!:1",
        "7 1 1 1 1 mode:3 scales!:6",
        "9 2 2 1 1 mode:3",
        "10 2 2 1 1 deprecated mode:3",
    ),
    "Where": (
        "9 3 3 1 1",
        "16 3 3 1 1",
    ),
    "Xor": (
        "1 2 2 1 1 axis:2 broadcast:2",
        "7 2 2 1 1",
    ),
}
