"""What onnxruntime says of its own installation."""

from cnnengine.onnxruntime.functions import check_distro_info, check_training_module, get_package_name_and_version_info

__all__ = ["check_distro_info", "check_training_module", "get_package_name_and_version_info"]
