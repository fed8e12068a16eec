"""Name and version of the package."""

from cnnengine.onnxruntime.functions import VERSION as __version__

package_name = "onnxruntime"

__all__ = ["__version__", "package_name"]
