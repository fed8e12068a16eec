"""A CNN inference engine for CPUs: ONNX in, compiled Cython kernels underneath."""
