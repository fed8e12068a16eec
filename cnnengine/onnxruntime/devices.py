"""Devices, memory and what else onnxruntime tells of where a model runs: one CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np

from .. import arguments
from ..errors import InputError
from ..session.options import PROVIDER
from ..session.values import OrtValue, check_device
from .errors import refusal


class OrtAllocatorType(IntEnum):
    """Kinds of allocators; without meaning here, where memory is planned."""

    INVALID = -1
    ORT_DEVICE_ALLOCATOR = 0
    ORT_ARENA_ALLOCATOR = 1


class OrtMemType(IntEnum):
    """Kinds of memory; without meaning here."""

    CPU_INPUT = -2
    CPU_OUTPUT = -1
    CPU = -1
    DEFAULT = 0


class OrtMemoryInfoDeviceType(IntEnum):
    """Kinds of devices that memory belongs to."""

    CPU = 0
    GPU = 1
    FPGA = 2
    NPU = 3


class OrtDeviceMemoryType(IntEnum):
    """Who reaches a device's memory; without meaning here."""

    DEFAULT = 0
    HOST_ACCESSIBLE = 5


class OrtExecutionProviderDevicePolicy(IntEnum):
    """Which provider is preferred; without meaning here, where there is one."""

    DEFAULT = 0
    PREFER_CPU = 1
    PREFER_NPU = 2
    PREFER_GPU = 3
    MAX_PERFORMANCE = 4
    MAX_EFFICIENCY = 5
    MIN_OVERALL_POWER = 6


class OrtHardwareDeviceType(IntEnum):
    """Kinds of processors."""

    CPU = 0
    GPU = 1
    NPU = 2


class OrtDeviceVendorId(IntEnum):
    """Makers of devices."""

    NONE = 0x0000
    AMD = 0x1002
    NVIDIA = 0x10DE
    ARM = 0x13B5
    MICROSOFT = 0x1414
    HUAWEI = 0x19E5
    QUALCOMM = 0x5143
    INTEL = 0x8086


class OrtCompileApiFlags(IntEnum):
    """Flags of a compiler of models that is not there."""

    NONE = 0
    ERROR_IF_NO_NODES_COMPILED = 1
    ERROR_IF_OUTPUT_FILE_EXISTS = 2


class OrtSparseFormat(IntEnum):
    """Forms of sparse tensors, which are not there."""

    ORT_SPARSE_UNDEFINED = 0
    ORT_SPARSE_COO = 1
    ORT_SPARSE_CSRC = 2
    ORT_SPARSE_BLOCK_SPARSE = 4


class ArenaExtendStrategy(IntEnum):
    """How an arena grows; without meaning here."""

    kNextPowerOfTwo = 0
    kSameAsRequested = 1


class OrtCompiledModelCompatibility(IntEnum):
    """Whether a compiled model fits a provider."""

    EP_NOT_APPLICABLE = 0
    EP_SUPPORTED_OPTIMAL = 1
    EP_SUPPORTED_PREFER_RECOMPILATION = 2
    EP_UNSUPPORTED = 3


class OrtDeviceEpIncompatibilityReason(IntEnum):
    """Why a device does not fit a provider."""

    NONE = 0
    DRIVER_INCOMPATIBLE = 1
    DEVICE_INCOMPATIBLE = 2
    MISSING_DEPENDENCY = 4
    UNKNOWN = -(2**31)


_DEVICE_TYPES = {"cpu": 0, "gpu": 1, "cuda": 1, "dml": 1, "webgpu": 1, "fpga": 2, "npu": 3, "cann": 3}


class OrtDevice:
    """The CPU: made by ``OrtDevice.make("cpu", 0)``, of numbers, or of another."""

    def __init__(self, *numbers: Any) -> None:
        if len(numbers) == 1 and isinstance(numbers[0], OrtDevice):
            return
        if len(numbers) not in (3, 4):
            raise InputError("is no device", expected="type, memory[, vendor], id", received=numbers)
        kind = arguments.integer(numbers[0], "device_type", None, None)
        check_device("cpu" if kind == 0 else f"number {kind}", numbers[-1])

    @staticmethod
    def make(ort_device_name: str, device_id: int, vendor_id: int = -1) -> OrtDevice:
        """The device of this name, which is ``"cpu"``, number 0."""
        check_device(ort_device_name, device_id)
        return OrtDevice(0, 0, 0)

    def device_id(self) -> int:
        return 0

    def device_type(self) -> int:
        return 0

    def device_vendor_id(self) -> int:
        return 0

    vendor_id = device_vendor_id

    def device_mem_type(self) -> int:
        return 0

    mem_type = device_mem_type

    def _get_c_device(self) -> OrtDevice:
        return self

    @staticmethod
    def cpu() -> int:
        """The number of the kind."""
        return _DEVICE_TYPES["cpu"]

    @staticmethod
    def gpu() -> int:
        """The number of a kind that is not there."""
        return _DEVICE_TYPES["gpu"]

    cuda = dml = webgpu = gpu

    @staticmethod
    def fpga() -> int:
        """The number of a kind that is not there."""
        return _DEVICE_TYPES["fpga"]

    @staticmethod
    def npu() -> int:
        """The number of a kind that is not there."""
        return _DEVICE_TYPES["npu"]

    cann = npu

    @staticmethod
    def default_memory() -> int:
        return 0


def get_ort_device_type(device_type: str) -> int:
    """The number of a kind of devices."""
    if device_type not in _DEVICE_TYPES:
        raise InputError(
            "there is no such kind of devices", tensor="device_type", expected=list(_DEVICE_TYPES), received=device_type
        )
    return _DEVICE_TYPES[device_type]


class OrtMemoryInfo:
    """Which memory a tensor lies in: any name is taken, of the CPU alone."""

    def __init__(self, name: str, allocator_type: int, device_id: int, mem_type: int) -> None:
        if not isinstance(name, str):
            raise InputError("must be a name", tensor="name", expected="str", received=type(name).__name__)
        check_device("cpu" if name.lower().startswith("cpu") else name, device_id)
        self._label = name
        self._allocator = OrtAllocatorType(arguments.integer(allocator_type, "allocator_type", -1, 1))
        self._kind = OrtMemType(arguments.integer(mem_type, "mem_type", -2, 0))

    @staticmethod
    def create_v2(
        name: str, device_type: int, vendor_id: int, device_id: int, mem_type: int, alignment: int, allocator_type: int
    ) -> OrtMemoryInfo:
        """Memory by the kind of its device, which is the CPU."""
        if arguments.integer(device_type, "device_type", None, None) != OrtMemoryInfoDeviceType.CPU:
            check_device(str(device_type), device_id)
        info = OrtMemoryInfo("Cpu", allocator_type, device_id, 0)
        info._label = name
        return info

    @property
    def name(self) -> str:
        return self._label

    @property
    def allocator_type(self) -> OrtAllocatorType:
        return self._allocator

    @property
    def mem_type(self) -> OrtMemType:
        return self._kind

    @property
    def device_id(self) -> int:
        return 0

    @property
    def device_mem_type(self) -> OrtDeviceMemoryType:
        return OrtDeviceMemoryType.DEFAULT

    @property
    def device_vendor_id(self) -> int:
        return 0


class OrtArenaCfg:
    """Settings of an arena, kept without effect: memory is planned."""

    _NAMES = (
        "max_mem",
        "arena_extend_strategy",
        "initial_chunk_size_bytes",
        "max_dead_bytes_per_chunk",
        "initial_growth_chunk_size_bytes",
        "max_power_of_two_extend_bytes",
    )

    def __init__(self, *values: Any) -> None:
        given: Mapping[Any, Any]
        if len(values) == 1 and isinstance(values[0], Mapping):
            given = values[0]
        elif len(values) == 4:
            given = dict(zip(self._NAMES, values, strict=False))
        else:
            raise InputError("are no settings of an arena", expected="four numbers, or a dict", received=values)
        unknown = [key for key in given if key not in self._NAMES]
        if unknown:
            raise InputError("there is no such setting", tensor=str(unknown[0]), expected=self._NAMES)
        numbers = {key: arguments.integer(value, key, None, None) for key, value in given.items()}
        self.max_mem = numbers.get("max_mem", 0)
        self.arena_extend_strategy = numbers.get("arena_extend_strategy", -1)
        self.initial_chunk_size_bytes = numbers.get("initial_chunk_size_bytes", -1)
        self.max_dead_bytes_per_chunk = numbers.get("max_dead_bytes_per_chunk", -1)
        self.initial_growth_chunk_size_bytes = numbers.get("initial_growth_chunk_size_bytes", -1)
        self.max_power_of_two_extend_bytes = numbers.get("max_power_of_two_extend_bytes", -1)


@dataclass(frozen=True, eq=False)
class OrtHardwareDevice:
    """The processor."""

    type: OrtHardwareDeviceType = OrtHardwareDeviceType.CPU
    vendor: str = ""
    vendor_id: int = 0
    device_id: int = 0
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class OrtEpDevice:
    """The processor and the provider that runs on it."""

    ep_name: str
    ep_vendor: str
    device: OrtHardwareDevice
    ep_metadata: dict[str, str] = field(default_factory=dict)
    ep_options: dict[str, str] = field(default_factory=dict)

    def memory_info(self, memory_type: OrtDeviceMemoryType) -> None:
        """None: there is no memory but the CPU's own."""
        return None

    create_sync_stream = refusal("OrtEpDevice.create_sync_stream", "there are no streams on a CPU")


_VENDORS = {"AuthenticAMD": ("AMD", 0x1022), "GenuineIntel": ("Intel", 0x8086)}


@cache
def the_device() -> OrtEpDevice:
    from .. import __version__

    vendor, number = "", 0
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("vendor_id"):
                    name = line.partition(":")[2].strip()
                    vendor, number = _VENDORS.get(name, (name, 0))
                    break
    except OSError:
        pass
    return OrtEpDevice(PROVIDER, "cnnengine", OrtHardwareDevice(vendor=vendor, vendor_id=number), {"version": __version__})


@dataclass(frozen=True, eq=False)
class OrtEpAssignedNode:
    """A node of the file."""

    name: str
    domain: str
    op_type: str


@dataclass(frozen=True, eq=False)
class OrtEpAssignedSubgraph:
    """The nodes of the file, all of which the one provider runs."""

    ep_name: str
    _nodes: tuple[OrtEpAssignedNode, ...]

    def get_nodes(self) -> list[OrtEpAssignedNode]:
        return list(self._nodes)


@dataclass(frozen=True, eq=False)
class OrtExternalInitializerInfo:
    """Where a tensor of a compiled model would lie."""

    filepath: str
    file_offset: int
    byte_size: int


class OrtValueVector:
    """A list of OrtValues that others read as DLPack."""

    def __init__(self, values: Sequence[OrtValue] = ()) -> None:
        self._values = list(values)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[OrtValue]:
        return iter(self._values)

    def __getitem__(self, index: int) -> OrtValue:
        return self._values[index]

    def push_back(self, value: Any, is_bool_tensor: bool | None = None) -> None:
        """Append an OrtValue, or a tensor of another library's."""
        self._values.append(value if isinstance(value, OrtValue) else OrtValue.from_dlpack(value, is_bool_tensor))

    def push_back_batch(
        self,
        tensors: Sequence[Any],
        addresses: Sequence[int],
        types: Sequence[Any],
        shapes: Sequence[Any],
        devices: Sequence[Any],
    ) -> None:
        """Append tensors of another library's; they say themselves where they lie and what they are."""
        for tensor in tensors:
            self.push_back(tensor)

    def reserve(self, size: int) -> None:
        """Accepted without effect."""

    def shrink_to_fit(self) -> None:
        """Accepted without effect."""

    def element_type_at(self, index: int) -> int:
        return self._values[index].element_type()

    def bool_tensor_indices(self) -> list[int]:
        return [i for i, value in enumerate(self._values) if value.numpy().dtype == np.bool_]

    def dlpack_at(self, index: int) -> Any:
        """A capsule of one."""
        return self._values[index].to_dlpack()

    def to_dlpacks(self, to_tensor: Any = None) -> list[Any]:
        """Capsules of all, or what the function makes of them."""
        return [value.to_dlpack() if to_tensor is None else to_tensor(value.to_dlpack()) for value in self._values]


def is_dlpack_uint8_tensor(capsule: Any) -> bool:
    """Whether a capsule holds bytes, as DLPack tells booleans."""
    return bool(OrtValue.from_dlpack(capsule, False).numpy().dtype == np.uint8)
