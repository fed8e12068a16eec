"""What a file is that is no ONNX model, by its first bytes and the names inside, and the way from there to an ONNX file."""

from __future__ import annotations

import io
import mmap
import os
import struct
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

HEAD = 512
"""Bytes that tell a format."""
LONGEST_HEADER = 100_000_000
"""Bytes of the header of a safetensors file, by its definition."""


class Foreign(NamedTuple):
    """A format, as the end of "it is", and how to come from it to an ONNX file."""

    kind: str
    way: str


def foreign(data: bytes | mmap.mmap, name: str) -> Foreign | None:
    """What these bytes are, where they are known to be something else than an ONNX model.

    Parameters
    ----------
    data : bytes or mmap
    name : str
        The file's, from which the name in an export line is made.
    """
    head = bytes(data[:HEAD])
    stem = os.path.splitext(os.path.basename(name))[0] or "model"
    if "." not in os.path.basename(name):  # bytes and file objects have no name of a file
        stem = "model"
    torch = f"torch.onnx.export(model, (example,), {stem + '.onnx'!r})"
    keras = f"model.export({stem + '.onnx'!r}, format='onnx') in Keras"
    if head.startswith(b"PK\x03\x04"):
        return _of_zip(data, torch, keras)
    if head.startswith(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."):  # torch.save's number, before zip files
        return Foreign("a file of PyTorch, of its older format", f"load it there, then {torch}")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return Foreign("an HDF5 file, as Keras writes them", f"load it there, then {keras}")
    if head[4:8] == b"TFL3":
        return Foreign("a TensorFlow Lite model", f"python -m tf2onnx.convert --tflite {stem}.tflite --output {stem}.onnx")
    if head[4:8] == b"ORTM":
        return Foreign("a model in onnxruntime's own format", "give the .onnx file that it was made of")
    if head.startswith(b"GGUF"):
        return Foreign("a GGUF file", "give the network as onnx, exported from where it was trained")
    if head.startswith(b"7767517\n"):
        return Foreign("a network of ncnn", "give the .onnx file that it was made of")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:HEAD]
    if text.startswith(b"<?xml") and b"<net " in text:
        return Foreign("a model of OpenVINO", "give the .onnx file that it was made of")
    if text[:15].lower().startswith((b"<!doctype html", b"<html")):
        return Foreign("a web page", "download the file itself (of a page on the web, its link to the raw file)")
    if head.startswith(b"version https://git-lfs"):
        return Foreign("a pointer of Git LFS", "git lfs pull gets the file that it stands for")
    if len(head) > 10 and head[8:10] == b'{"' and struct.unpack("<Q", head[:8])[0] <= min(len(data) - 8, LONGEST_HEADER):
        return Foreign("a safetensors file: weights alone", f"build the network where it comes from, load them, then {torch}")
    return None


def _of_zip(data: bytes | mmap.mmap, torch: str, keras: str) -> Foreign | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, struct.error, OSError):
        return None
    inside = [name.partition("/")[2] for name in names]  # torch puts all into one folder
    if "archive_format" in inside or "archive_format" in names:
        return Foreign(
            "a program of torch.export", f"torch.export.load it, then {torch.replace('model, (example,)', 'program, ()')}"
        )
    if "data.pkl" in inside:
        if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
            return Foreign("a TorchScript file of PyTorch", f"torch.jit.load it, then {torch}")
        return Foreign("a file of PyTorch: weights, or a pickled model", f"load it there, then {torch}")
    if "config.json" in names and any(name.endswith(".h5") for name in names):
        return Foreign("a Keras model", f"load it there, then {keras}")
    if names and all(name.endswith(".npy") for name in names):
        return Foreign("arrays of NumPy", "a model is an ONNX file; arrays are what it is run on")
    return Foreign("a zip file", f"unpack it{_models(names)}")


def _models(names: Sequence[str]) -> str:
    found = [name for name in names if name.endswith(".onnx")]
    return f": {found[0]!r} is in it" if found else ", and give the ONNX file, if there is one"
