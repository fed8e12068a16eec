"""Names of the compiled part of onnxruntime, its exceptions among them."""

from cnnengine.onnxruntime.devices import (
    ArenaExtendStrategy,
    OrtAllocatorType,
    OrtArenaCfg,
    OrtCompileApiFlags,
    OrtCompiledModelCompatibility,
    OrtDevice,
    OrtDeviceEpIncompatibilityReason,
    OrtDeviceMemoryType,
    OrtEpAssignedNode,
    OrtEpAssignedSubgraph,
    OrtEpDevice,
    OrtExecutionProviderDevicePolicy,
    OrtExternalInitializerInfo,
    OrtHardwareDevice,
    OrtHardwareDeviceType,
    OrtMemoryInfo,
    OrtMemoryInfoDeviceType,
    OrtMemType,
    OrtSparseFormat,
    OrtValueVector,
    is_dlpack_uint8_tensor,
)
from cnnengine.onnxruntime.errors import (
    DeviceReset,
    EngineError,
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    ModelLoadCanceled,
    ModelLoaded,
    ModelRequiresCompilation,
    NoModel,
    NoSuchFile,
    NotFound,
    NotImplemented,
    RuntimeException,
)
from cnnengine.onnxruntime.functions import (
    copy_tensors,
    create_and_register_allocator,
    create_and_register_allocator_v2,
    get_default_session_options,
    get_ep_devices,
    get_hardware_devices,
    get_version_string,
    has_collective_ops,
    set_global_thread_pool_sizes,
)
from cnnengine.onnxruntime.inference import (
    InferenceSession,
    SessionIOBinding,
)
from cnnengine.onnxruntime.refused import OBJECTS
from cnnengine.session import (
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    ModelMetadata,
    NodeArg,
    OrtValue,
    RunOptions,
    SessionOptions,
    disable_telemetry_events,
    enable_telemetry_events,
    get_all_providers,
    get_available_providers,
    get_build_info,
    get_device,
    set_default_logger_severity,
    set_default_logger_verbosity,
    set_seed,
)

kNextPowerOfTwo = ArenaExtendStrategy.kNextPowerOfTwo
kSameAsRequested = ArenaExtendStrategy.kSameAsRequested
AdapterFormat = OBJECTS["AdapterFormat"]
LoraAdapter = OBJECTS["LoraAdapter"]
ModelCompiler = OBJECTS["ModelCompiler"]
OrtEpContextData = OBJECTS["OrtEpContextData"]
OrtEpContextDataBuffer = OBJECTS["OrtEpContextDataBuffer"]
OrtSyncStream = OBJECTS["OrtSyncStream"]
SessionObjectInitializer = OBJECTS["SessionObjectInitializer"]
SparseBlockSparseView = OBJECTS["SparseBlockSparseView"]
SparseCooView = OBJECTS["SparseCooView"]
SparseCsrView = OBJECTS["SparseCsrView"]
SparseTensor = OBJECTS["SparseTensor"]
get_all_operator_schema = OBJECTS["get_all_operator_schema"]
get_all_opkernel_def = OBJECTS["get_all_opkernel_def"]
get_compatibility_info_from_model = OBJECTS["get_compatibility_info_from_model"]
get_compatibility_info_from_model_bytes = OBJECTS["get_compatibility_info_from_model_bytes"]
get_hardware_device_ep_incompatibility_details = OBJECTS["get_hardware_device_ep_incompatibility_details"]
get_model_compatibility_for_ep_devices = OBJECTS["get_model_compatibility_for_ep_devices"]
get_registered_ep_kernel_defs = OBJECTS["get_registered_ep_kernel_defs"]
get_session_initializer = OBJECTS["get_session_initializer"]
pack_fp4_weights_for_cuda_moe_gemm = OBJECTS["pack_fp4_weights_for_cuda_moe_gemm"]
quantize_matmul_2bits = OBJECTS["quantize_matmul_2bits"]
quantize_matmul_4bits = OBJECTS["quantize_matmul_4bits"]
quantize_matmul_8bits = OBJECTS["quantize_matmul_8bits"]
quantize_matmul_bnb4 = OBJECTS["quantize_matmul_bnb4"]
quantize_qdq_matmul_2bits = OBJECTS["quantize_qdq_matmul_2bits"]
quantize_qdq_matmul_4bits = OBJECTS["quantize_qdq_matmul_4bits"]
register_execution_provider_library = OBJECTS["register_execution_provider_library"]
unregister_execution_provider_library = OBJECTS["unregister_execution_provider_library"]
opkernel = OBJECTS["opkernel"]
schemadef = OBJECTS["schemadef"]

__all__ = [
    "AdapterFormat",
    "ArenaExtendStrategy",
    "DeviceReset",
    "EPFail",
    "EngineError",
    "ExecutionMode",
    "ExecutionOrder",
    "Fail",
    "GraphOptimizationLevel",
    "InferenceSession",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "LoraAdapter",
    "ModelCompiler",
    "ModelLoadCanceled",
    "ModelLoaded",
    "ModelMetadata",
    "ModelRequiresCompilation",
    "NoModel",
    "NoSuchFile",
    "NodeArg",
    "NotFound",
    "NotImplemented",
    "OrtAllocatorType",
    "OrtArenaCfg",
    "OrtCompileApiFlags",
    "OrtCompiledModelCompatibility",
    "OrtDevice",
    "OrtDeviceEpIncompatibilityReason",
    "OrtDeviceMemoryType",
    "OrtEpAssignedNode",
    "OrtEpAssignedSubgraph",
    "OrtEpContextData",
    "OrtEpContextDataBuffer",
    "OrtEpDevice",
    "OrtExecutionProviderDevicePolicy",
    "OrtExternalInitializerInfo",
    "OrtHardwareDevice",
    "OrtHardwareDeviceType",
    "OrtMemType",
    "OrtMemoryInfo",
    "OrtMemoryInfoDeviceType",
    "OrtSparseFormat",
    "OrtSyncStream",
    "OrtValue",
    "OrtValueVector",
    "RunOptions",
    "RuntimeException",
    "SessionIOBinding",
    "SessionObjectInitializer",
    "SessionOptions",
    "SparseBlockSparseView",
    "SparseCooView",
    "SparseCsrView",
    "SparseTensor",
    "copy_tensors",
    "create_and_register_allocator",
    "create_and_register_allocator_v2",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_operator_schema",
    "get_all_opkernel_def",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_compatibility_info_from_model",
    "get_compatibility_info_from_model_bytes",
    "get_default_session_options",
    "get_device",
    "get_ep_devices",
    "get_hardware_device_ep_incompatibility_details",
    "get_hardware_devices",
    "get_model_compatibility_for_ep_devices",
    "get_registered_ep_kernel_defs",
    "get_session_initializer",
    "get_version_string",
    "has_collective_ops",
    "is_dlpack_uint8_tensor",
    "kNextPowerOfTwo",
    "kSameAsRequested",
    "opkernel",
    "pack_fp4_weights_for_cuda_moe_gemm",
    "quantize_matmul_2bits",
    "quantize_matmul_4bits",
    "quantize_matmul_8bits",
    "quantize_matmul_bnb4",
    "quantize_qdq_matmul_2bits",
    "quantize_qdq_matmul_4bits",
    "register_execution_provider_library",
    "schemadef",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_global_thread_pool_sizes",
    "set_seed",
    "unregister_execution_provider_library",
]
