"""What is known of operators that the onnx package lacks: those of com.microsoft, and those that ONNX once had as experimental.

The lines are those of `schemas`. Of the default domain a line counts where `schemas` has none so old: onnxruntime writes
LayerNormalization into models of any opset. The experimental operators went with opset 10.
"""

from __future__ import annotations

_CONV = "auto_pad:3 dilations:7 group:2 kernel_shape:7 pads:7 strides:7"

MORE: dict[str, dict[str, tuple[str, ...]]] = {
    "": {
        "Affine": ("1 1 1 1 1 alpha:1 beta:1", "10 1 1 1 1 deprecated alpha:1 beta:1"),
        "Crop": ("1 1 1 1 1 border:7 scale:7", "10 1 1 1 1 deprecated border:7 scale:7"),
        "DynamicSlice": ("1 3 4 1 1", "10 3 4 1 1 deprecated"),
        "ImageScaler": ("1 1 1 1 1 bias:6 scale:1", "10 1 1 1 1 deprecated bias:6 scale:1"),
        "LayerNormalization": ("1 2 3 1 3 axis:2 epsilon:1 stash_type:2",),
        "MeanVarianceNormalization": ("1 1 1 1 1 across_channels:2 normalize_variance:2",),
        "ParametricSoftplus": ("1 1 1 1 1 alpha:1 beta:1", "10 1 1 1 1 deprecated alpha:1 beta:1"),
        "Scale": ("1 1 1 1 1 scale:1", "10 1 1 1 1 deprecated scale:1"),
        "ScaledTanh": ("1 1 1 1 1 alpha:1 beta:1", "10 1 1 1 1 deprecated alpha:1 beta:1"),
        "SimplifiedLayerNormalization": ("1 2 2 1 2 axis:2 epsilon:1 stash_type:2",),
        "ThresholdedRelu": ("1 1 1 1 1 alpha:1",),
    },
    "com.microsoft": {
        "BiasGelu": ("1 2 2 1 1",),
        "CropAndResize": ("1 4 4 1 1 extrapolation_value:1 mode:3",),
        "DequantizeLinear": ("1 2 3 1 1 axis:2",),
        "DynamicQuantizeLSTM": (
            "1 12 12 0 3 activation_alpha:6 activation_beta:6 activations:8 clip:1 direction:3 hidden_size:2 input_forget:2",
        ),
        "DynamicQuantizeMatMul": ("1 3 5 1 1",),
        "FastGelu": ("1 1 2 1 1",),
        "FusedConv": (f"1 2 4 1 1 activation:3 activation_params:6 {_CONV}",),
        "FusedGemm": (
            "1 2 3 1 1 activation:3 activation_alpha:1 activation_beta:1 activation_gamma:1 alpha:1 beta:1 transA:2 transB:2",
        ),
        "FusedMatMul": ("1 2 2 1 1 alpha:1 transA:2 transB:2 transBatchA:2 transBatchB:2",),
        "Gelu": ("1 1 1 1 1",),
        "GridSample": ("1 2 2 1 1 align_corners:2 mode:3 padding_mode:3",),
        "GroupNorm": ("1 3 3 1 1 activation!:2 channels_last:2 epsilon:1 groups!:2",),
        "Inverse": ("1 1 1 1 1",),
        "MatMulIntegerToFloat": ("1 4 7 1 1",),
        "MatMulNBits": ("1 3 6 1 1 K!:2 N!:2 accuracy_level:2 bits:2 block_size!:2 weight_prepacked:2",),
        "NhwcConv": (f"1 2 3 1 1 {_CONV}",),
        "NhwcFusedConv": (f"1 2 4 1 1 activation:3 activation_params:6 {_CONV}",),
        "NhwcMaxPool": ("1 1 1 1 1 auto_pad:3 ceil_mode:2 dilations:7 kernel_shape!:7 pads:7 strides:7",),
        "QGemm": ("1 6 9 1 1 alpha:1 transA:2 transB:2",),
        "QLinearAdd": ("1 7 8 1 1",),
        "QLinearAveragePool": (
            "1 4 5 1 1 auto_pad:3 ceil_mode:2 channels_last:2 count_include_pad:2 kernel_shape!:7 pads:7 strides:7",
        ),
        "QLinearConcat": ("1 3 2147483647 1 1 axis!:2",),
        "QLinearConv": (f"1 8 9 1 1 channels_last:2 {_CONV}",),
        "QLinearGlobalAveragePool": ("1 5 5 1 1 channels_last:2",),
        "QLinearLeakyRelu": ("1 4 5 1 1 alpha:1",),
        "QLinearMul": ("1 7 8 1 1",),
        "QLinearReduceMean": ("1 4 5 1 1 axes!:7 keepdims!:2",),
        "QLinearSigmoid": ("1 4 5 1 1",),
        "QLinearSoftmax": ("1 5 5 1 1 axis:2 opset!:2",),
        "QLinearWhere": ("1 9 9 1 1",),
        "QuantizeLinear": ("1 2 3 1 1 axis:2",),
        "QuickGelu": ("1 1 1 1 1 alpha:1",),
        "SkipLayerNormalization": ("1 3 5 1 4 epsilon:1",),
        "SkipSimplifiedLayerNormalization": ("1 3 4 1 4 epsilon:1",),
        "TransposeMatMul": ("1 2 2 1 1 alpha:1 transA:2 transB:2",),
    },
}
"""Domain -> operator -> its schemas, the oldest first."""

OPTIONAL: dict[str, tuple[int, ...]] = {
    "DynamicQuantizeLSTM": (3, 4, 5, 6, 7),
    "QLinearAdd": (2, 5),
    "QLinearAveragePool": (2,),
    "QLinearLeakyRelu": (2,),
    "QLinearMul": (2, 5),
    "QLinearReduceMean": (2,),
    "QLinearSigmoid": (2,),
    "QLinearSoftmax": (2,),
}
"""Operators of com.microsoft with inputs that may be absent although inputs that may not follow them, and which these are."""

FIRST_OUTPUTS = frozenset(["DynamicQuantizeLinear"])
"""Operators of the default domain whose last outputs files leave out although the schema has them all: a function in ONNX."""

EXPERIMENTAL = frozenset(
    ["ATen", "Affine", "ConstantFill", "Crop", "DynamicSlice", "GRUUnit", "GivenTensorFill", "ImageScaler", "ParametricSoftplus"]
    + ["Scale", "ScaledTanh"]
)
"""Operators of the default domain that ONNX had as experimental and retired before opset 10."""
