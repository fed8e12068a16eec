"""The index of the operators: one line each, operator -> the module of this folder that holds its class.

A class has the name of its ONNX operator; modules are imported when an operator of theirs is first met.
"""

from __future__ import annotations

import importlib
from functools import cache

from ..operator import Operator

__all__ = ["DOMAINS", "INDEX", "MICROSOFT", "OWN", "RETIRED", "available", "lookup"]

INDEX: dict[str, str] = {
    # convolution and dense layers
    "Conv": "conv",
    "ConvInteger": "integer_conv",
    "ConvTranspose": "conv",
    "QLinearConv": "integer_conv",
    "QLinearMatMul": "integer_products",
    "MatMulInteger": "integer_products",
    "QuantizeLinear": "quantized",
    "DequantizeLinear": "quantized",
    "DynamicQuantizeLinear": "quantized",
    "Einsum": "einsum",
    "Gemm": "dense",
    "MatMul": "dense",
    # recurrent layers
    "GRU": "recurrent",
    "LSTM": "recurrent",
    "RNN": "recurrent",
    # pooling
    "AveragePool": "pool",
    "GlobalAveragePool": "pool",
    "GlobalLpPool": "pool",
    "GlobalMaxPool": "pool",
    "LpPool": "pool",
    "MaxPool": "pool",
    "MaxUnpool": "pool",
    # normalisation
    "BatchNormalization": "norm",
    "GroupNormalization": "norm",
    "InstanceNormalization": "norm",
    "LRN": "norm",
    "LayerNormalization": "norm",
    "LpNormalization": "norm",
    "RMSNormalization": "norm",
    "MeanVarianceNormalization": "norm",
    # activations and other functions of one element
    "Abs": "activation",
    "Ceil": "activation",
    "Celu": "activation",
    "Clip": "activation",
    "Elu": "activation",
    "Erf": "activation",
    "Exp": "activation",
    "Floor": "activation",
    "Gelu": "activation",
    "HardSigmoid": "activation",
    "HardSwish": "activation",
    "LeakyRelu": "activation",
    "Log": "activation",
    "Mish": "activation",
    "Neg": "activation",
    "PRelu": "activation",
    "Reciprocal": "activation",
    "Relu": "activation",
    "Round": "activation",
    "Selu": "activation",
    "Sigmoid": "activation",
    "Sign": "activation",
    "Softplus": "activation",
    "Softsign": "activation",
    "Sqrt": "activation",
    "Swish": "activation",
    "Tanh": "activation",
    "ThresholdedRelu": "activation",
    "Atanh": "activation",
    "Acosh": "activation",
    "Asinh": "activation",
    "Cosh": "activation",
    "Sinh": "activation",
    "Atan": "activation",
    "Acos": "activation",
    "Asin": "activation",
    "Tan": "activation",
    "Cos": "activation",
    "Sin": "activation",
    "Shrink": "activation",
    # arithmetic, comparison and logic between tensors
    "Add": "elementwise",
    "And": "elementwise",
    "Div": "elementwise",
    "Equal": "elementwise",
    "Greater": "elementwise",
    "GreaterOrEqual": "elementwise",
    "Less": "elementwise",
    "LessOrEqual": "elementwise",
    "Max": "elementwise",
    "Mean": "elementwise",
    "Min": "elementwise",
    "Mod": "elementwise",
    "Mul": "elementwise",
    "Not": "elementwise",
    "Or": "elementwise",
    "Pow": "elementwise",
    "Sub": "elementwise",
    "Sum": "elementwise",
    "Where": "elementwise",
    "Xor": "elementwise",
    "IsNaN": "elementwise",
    "IsInf": "elementwise",
    "BitwiseXor": "elementwise",
    "BitwiseOr": "elementwise",
    "BitwiseNot": "elementwise",
    "BitwiseAnd": "elementwise",
    "BitShift": "elementwise",
    # reductions
    "ArgMax": "reduce",
    "ArgMin": "reduce",
    "Hardmax": "reduce",
    "LogSoftmax": "reduce",
    "ReduceL1": "reduce",
    "ReduceL2": "reduce",
    "ReduceLogSum": "reduce",
    "ReduceLogSumExp": "reduce",
    "ReduceMax": "reduce",
    "ReduceMean": "reduce",
    "ReduceMin": "reduce",
    "ReduceProd": "reduce",
    "ReduceSum": "reduce",
    "ReduceSumSquare": "reduce",
    "Softmax": "reduce",
    # shapes and data movement
    "BitCast": "bits",
    "Cast": "cast",
    "CastLike": "cast",
    "Concat": "pieces",
    "DepthToSpace": "transpose",
    "Dropout": "shape",
    "Expand": "extend",
    "Flatten": "shape",
    "Identity": "shape",
    "Pad": "extend",
    "Reshape": "shape",
    "Shape": "shape",
    "Size": "shape",
    "Slice": "pieces",
    "SpaceToDepth": "transpose",
    "Split": "pieces",
    "Squeeze": "shape",
    "Tile": "extend",
    "Transpose": "transpose",
    "Unsqueeze": "shape",
    "Resize": "resize",
    "Upsample": "resize",
    "ConstantOfShape": "constant",
    "Range": "constant",
    "CumSum": "running",
    "Gather": "gather",
    "GatherElements": "gather",
    "GatherND": "gather",
    "NonZero": "choose",
    "OneHot": "scatter",
    "Scatter": "scatter",
    "ScatterElements": "scatter",
    "ScatterND": "scatter",
    "TopK": "choose",
    "Trilu": "matrix",
    "Compress": "choose",
    "CumProd": "running",
    "Det": "matrix",
    "EyeLike": "matrix",
    "ReverseSequence": "gather",
    "Unique": "choose",
    # losses
    "NegativeLogLikelihoodLoss": "loss",
    "SoftmaxCrossEntropyLoss": "loss",
    # signals
    "DFT": "signal",
    "STFT": "signal",
    # texts and encoded pictures
    "ImageDecoder": "decode",
    "RegexFullMatch": "text",
    "StringConcat": "text",
    "StringNormalizer": "text",
    "StringSplit": "text",
    # detection
    "NonMaxSuppression": "detection",
    "AffineGrid": "affine",
    "Col2Im": "columns",
    "DeformConv": "deform",
    "GridSample": "sample",
    "RoiAlign": "sample",
    # control flow and sequences
    "If": "control",
    "Loop": "control",
    "Scan": "control",
    "SequenceMap": "control",
    "ConcatFromSequence": "sequence",
    "Optional": "sequence",
    "OptionalGetElement": "sequence",
    "OptionalHasElement": "sequence",
    "SequenceAt": "sequence",
    "SequenceConstruct": "sequence",
    "SequenceEmpty": "sequence",
    "SequenceErase": "sequence",
    "SequenceInsert": "sequence",
    "SequenceLength": "sequence",
    "SplitToSequence": "sequence",
}
"""Operators of the default domain, by family."""

OWN_DOMAIN = "cnnengine"
OWN: dict[str, str] = {
    "AdaptivePool": "pool",
    "SpatialPyramidPool": "pool",
}
"""Operators that ONNX lacks: the importer puts them where a file calls the functions of `cnnengine.onnx_functions`."""

RETIRED: dict[str, str] = {
    "Affine": "retired",
    "Crop": "retired",
    "DynamicSlice": "retired",
    "ImageScaler": "retired",
    "ParametricSoftplus": "retired",
    "Scale": "retired",
    "ScaledTanh": "retired",
    "SimplifiedLayerNormalization": "contrib",
}
"""Operators of the default domain that ONNX's schemas lack: experimental ones of its first versions, and onnxruntime's own."""

MICROSOFT: dict[str, str] = {
    "BiasGelu": "contrib",
    "CropAndResize": "contrib",
    "DequantizeLinear": "contrib_quantized",
    "DynamicQuantizeLSTM": "contrib_quantized",
    "DynamicQuantizeMatMul": "contrib_quantized",
    "FastGelu": "contrib",
    "FusedConv": "contrib",
    "FusedGemm": "contrib",
    "FusedMatMul": "contrib",
    "Gelu": "contrib",
    "GridSample": "contrib",
    "GroupNorm": "contrib",
    "Inverse": "contrib",
    "MatMulIntegerToFloat": "contrib_quantized",
    "MatMulNBits": "contrib",
    "NhwcConv": "contrib",
    "NhwcFusedConv": "contrib",
    "NhwcMaxPool": "contrib",
    "QGemm": "contrib_quantized",
    "QLinearAdd": "contrib_quantized",
    "QLinearAveragePool": "contrib_quantized",
    "QLinearConcat": "contrib_quantized",
    "QLinearConv": "contrib_quantized",
    "QLinearGlobalAveragePool": "contrib_quantized",
    "QLinearLeakyRelu": "contrib_quantized",
    "QLinearMul": "contrib_quantized",
    "QLinearReduceMean": "contrib_quantized",
    "QLinearSigmoid": "contrib_quantized",
    "QLinearSoftmax": "contrib_quantized",
    "QLinearWhere": "contrib_quantized",
    "QuantizeLinear": "contrib_quantized",
    "QuickGelu": "contrib",
    "SkipLayerNormalization": "contrib",
    "SkipSimplifiedLayerNormalization": "contrib",
    "TransposeMatMul": "contrib",
}
"""Operators of the domain com.microsoft, which onnxruntime's optimizer and its quantiser write into the models that they save."""

DOMAINS: dict[str, dict[str, str]] = {
    "": {**INDEX, **RETIRED},
    "ai.onnx": {**INDEX, **RETIRED},
    OWN_DOMAIN: OWN,
    "com.microsoft": MICROSOFT,
}


@cache
def lookup(op_type: str, domain: str = "") -> type[Operator] | None:
    """The class of an operator, or None where there is none (then a fallback or an error decides)."""
    module = DOMAINS.get(domain, {}).get(op_type)
    if module is None:
        return None
    name = f"{__name__}.{module}"
    try:  # asking for the module's spec first would search the disk for each operator
        family = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None
    found: type[Operator] | None = getattr(family, op_type, None)
    return found


def available() -> list[str]:
    """The operators of the index whose class exists."""
    return sorted(name for name in INDEX if lookup(name) is not None)
