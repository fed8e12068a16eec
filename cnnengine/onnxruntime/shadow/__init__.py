"""What `cnnengine.onnxruntime.install` puts on the path: a package `onnxruntime`, and the metadata that tell its version."""
