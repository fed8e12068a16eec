"""What of onnxruntime's names is refused, and why: one list, which `docs/session.md` tells."""

from __future__ import annotations

from ..session.options import NO_ADAPTERS, NO_COMPILED_MODELS
from ..session.values import NO_SPARSE_TENSORS
from .errors import refusal, refused_class

NO_LIBRARIES = "libraries of other providers cannot be loaded"
NO_STREAMS = "there are no streams on a CPU"
NO_QUANTIZER = "weights are packed by onnxruntime's own quantiser, which needs onnxruntime"
NO_KERNEL_LIST = "the operators that run here are listed in docs/operators.md, not as kernels of providers"
OTHER_SESSION = "sessions are made by onnxruntime.InferenceSession"

CLASSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "AdapterFormat": (
        NO_ADAPTERS,
        (
            "adapter_version",
            "export_adapter",
            "format_version",
            "get_adapter_version",
            "get_format_version",
            "get_model_version",
            "get_parameters",
            "model_version",
            "parameters",
            "read_adapter",
            "set_adapter_version",
            "set_model_version",
            "set_parameters",
        ),
    ),
    "LoraAdapter": (NO_ADAPTERS, ("Load",)),
    "ModelCompiler": (
        NO_COMPILED_MODELS,
        (
            "clear_ep_context_data_write_func",
            "compile_to_bytes",
            "compile_to_file",
            "compile_to_stream",
            "set_ep_context_data_write_func",
        ),
    ),
    "OrtEpContextData": (NO_COMPILED_MODELS, ("read", "size")),
    "OrtEpContextDataBuffer": (NO_COMPILED_MODELS, ("allocate", "is_allocated", "max_size", "size", "write")),
    "OrtSyncStream": (NO_STREAMS, ("get_handle",)),
    "SparseTensor": (
        NO_SPARSE_TENSORS,
        (
            "as_blocksparse_view",
            "as_coo_view",
            "as_csrc_view",
            "blocksparse_from_numpy",
            "data_type",
            "dense_shape",
            "device_name",
            "format",
            "get_blocksparse_data",
            "get_coo_data",
            "get_csrc_data",
            "sparse_coo_from_numpy",
            "sparse_csr_from_numpy",
            "to_cuda",
            "values",
        ),
    ),
    "SparseBlockSparseView": (NO_SPARSE_TENSORS, ("indices",)),
    "SparseCooView": (NO_SPARSE_TENSORS, ("indices",)),
    "SparseCsrView": (NO_SPARSE_TENSORS, ("inner", "outer")),
    "SessionObjectInitializer": (OTHER_SESSION, ()),
    "opkernel": (NO_KERNEL_LIST, ("KernelDef",)),
    "schemadef": (NO_KERNEL_LIST, ("OpSchema",)),
}

FUNCTIONS: dict[str, str] = {
    "register_execution_provider_library": NO_LIBRARIES,
    "unregister_execution_provider_library": NO_LIBRARIES,
    "get_all_operator_schema": NO_KERNEL_LIST,
    "get_all_opkernel_def": NO_KERNEL_LIST,
    "get_registered_ep_kernel_defs": NO_KERNEL_LIST,
    "get_compatibility_info_from_model": NO_COMPILED_MODELS,
    "get_compatibility_info_from_model_bytes": NO_COMPILED_MODELS,
    "get_model_compatibility_for_ep_devices": NO_COMPILED_MODELS,
    "get_hardware_device_ep_incompatibility_details": NO_LIBRARIES,
    "get_session_initializer": OTHER_SESSION,
    "pack_fp4_weights_for_cuda_moe_gemm": NO_QUANTIZER,
    "quantize_matmul_2bits": NO_QUANTIZER,
    "quantize_matmul_4bits": NO_QUANTIZER,
    "quantize_matmul_8bits": NO_QUANTIZER,
    "quantize_matmul_bnb4": NO_QUANTIZER,
    "quantize_qdq_matmul_2bits": NO_QUANTIZER,
    "quantize_qdq_matmul_4bits": NO_QUANTIZER,
}

MODULES: dict[str, str] = {
    "onnxruntime.datasets": "the example models are onnxruntime's own",
    "onnxruntime.quantization": "the quantiser needs onnxruntime itself; cnnengine.quantize runs it, without the switch",
    "onnxruntime.tools": "these tools need onnxruntime itself",
    "onnxruntime.training": "there is no training",
    "onnxruntime.transformers": "this optimizer needs onnxruntime itself; cnnengine fuses what a file has when it loads it",
}

OBJECTS = {name: refused_class(name, reason, *members) for name, (reason, members) in CLASSES.items()} | {
    name: refusal(name, reason) for name, reason in FUNCTIONS.items()
}
