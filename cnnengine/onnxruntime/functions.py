"""Functions of the module `onnxruntime` that cnnengine's own face has not."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import arguments, config
from ..errors import InputError
from ..session import OrtValue, SessionOptions
from .devices import OrtArenaCfg, OrtEpDevice, OrtMemoryInfo, the_device

VERSION = "1.31.1"
"""The release of onnxruntime's whose names are here."""

_global_threads = 0


def get_version_string() -> str:
    """The version of onnxruntime whose interface this is; cnnengine's own is `cnnengine.__version__`."""
    return VERSION


def set_global_thread_pool_sizes(intra_op_num_threads: int = 0, inter_op_num_threads: int = 0) -> None:
    """Threads of sessions that are made from now on with `use_per_session_threads` False; 0 is the default count."""
    global _global_threads
    arguments.integer(inter_op_num_threads, "inter_op_num_threads", 0, 2**31 - 1)
    _global_threads = arguments.integer(intra_op_num_threads, "intra_op_num_threads", 0, 2**31 - 1)


def with_global_threads(options: SessionOptions) -> SessionOptions:
    """The options, with the count of `set_global_thread_pool_sizes` where they ask for the threads that all share."""
    if options.use_per_session_threads or not _global_threads:
        return options
    other = options._copy()
    other.intra_op_num_threads = _global_threads
    return other


def get_ep_devices() -> list[OrtEpDevice]:
    """The CPU."""
    return [the_device()]


def get_hardware_devices() -> list[Any]:
    """The CPU."""
    return [the_device().device]


def has_collective_ops() -> bool:
    """False."""
    return False


def create_and_register_allocator(mem_info: OrtMemoryInfo, arena_cfg: OrtArenaCfg | None = None) -> None:
    """Accepted without effect: memory is planned."""


def create_and_register_allocator_v2(
    provider_type: str, mem_info: OrtMemoryInfo, options: Mapping[str, str], arena_cfg: OrtArenaCfg | None = None
) -> None:
    """Accepted without effect: memory is planned."""


def copy_tensors(src: Sequence[OrtValue], dst: Sequence[OrtValue], stream: Any = None) -> None:
    """Copy the values of tensors into others of the same shapes and dtypes."""
    if len(src) != len(dst):
        raise InputError("one target per source is needed", tensor="dst", expected=len(src), received=len(dst))
    for value in (*src, *dst):
        if not isinstance(value, OrtValue):
            raise InputError("must be an OrtValue", tensor="src, dst", expected="OrtValues", received=type(value).__name__)
    for source, target in zip(src, dst, strict=True):
        target.update_inplace(source)


def preload_dlls(cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: str | None = None) -> None:
    """Accepted without effect: there are no libraries of devices."""


def print_debug_info() -> None:
    """Print what runs here: cnnengine, its build and this machine."""
    print(f"onnxruntime version: {VERSION} (the interface; the engine is cnnengine)")
    for key, value in config.show_config().items():
        print(f"cnnengine {key}: {value}")
    print("platform:", platform.platform())
    print("executable:", sys.executable)


def get_default_session_options() -> SessionOptions:
    """New options."""
    return SessionOptions()


def check_and_normalize_provider_args(
    providers: Sequence[Any] | None, provider_options: Sequence[Mapping[Any, Any]] | None, available_provider_names: Sequence[str]
) -> tuple[list[str], list[dict[str, str]]]:
    """Names and options of providers, one entry for each name."""
    pairs: dict[str, dict[str, str]] = {}
    for index, provider in enumerate(providers or ()):
        name, own = provider if isinstance(provider, tuple | list) and len(provider) == 2 else (provider, {})
        if provider_options is not None:
            own = provider_options[index] if index < len(provider_options) else {}
        if not isinstance(name, str) or not isinstance(own, Mapping):
            raise InputError("a provider is a name, or a name and a dict", tensor="providers", received=provider)
        pairs.setdefault(name, {str(key): str(value) for key, value in own.items()})
    return list(pairs), list(pairs.values())


def get_vendor_id_for_device_type(device_type: str) -> int | None:
    """None: the CPU is of no maker."""
    return None


def make_get_initializer_location_func_wrapper(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself: there is nothing to wrap."""
    return function


def get_package_name_and_version_info() -> tuple[str, str, str]:
    """``("onnxruntime", version, "")``."""
    return "onnxruntime", VERSION, ""


def check_distro_info() -> None:
    """Accepted without effect."""


def check_training_module() -> tuple[bool, str, str, str]:
    """``(False, ...)``: there is no training."""
    return False, *get_package_name_and_version_info()
