"""Small models whose values lie in planes, and how they are run."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

import cnnengine


class Net:
    """A model under construction; every value is (name, channels), all of one spatial extent."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
        self.rng, self.shape = rng, shape
        self.nodes: list[object] = []
        self.constants: list[object] = []
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def constant(self, array: np.ndarray) -> str:
        name = self.name()
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op_type: str, inputs: list[str], parts: int = 1, **attributes: object) -> list[str]:
        outputs = [self.name() for _ in range(parts)]
        self.nodes.append(helper.make_node(op_type, inputs, outputs, **attributes))
        return outputs

    def conv(self, x: tuple[str, int], channels: int, kernel: int = 1) -> tuple[str, int]:
        w = self.rng.standard_normal((channels, x[1], kernel, kernel)).astype(np.float32) / np.sqrt(x[1] * kernel * kernel)
        return self.add("Conv", [x[0], self.constant(w.astype(np.float32))], pads=[kernel // 2] * 4)[0], channels

    def concat(self, *parts: tuple[str, int]) -> tuple[str, int]:
        return self.add("Concat", [p[0] for p in parts], axis=1)[0], sum(p[1] for p in parts)

    def split(self, x: tuple[str, int], sizes: list[int]) -> list[tuple[str, int]]:
        names = self.add("Split", [x[0], self.constant(np.array(sizes, np.int64))], len(sizes), axis=1)
        return list(zip(names, sizes, strict=True))

    def slice(self, x: tuple[str, int], start: int, end: int) -> tuple[str, int]:
        ends = [self.constant(np.array([v], np.int64)) for v in (start, end, 1)]
        return self.add("Slice", [x[0], *ends])[0], end - start

    def model(self, *outputs: tuple[str, int]) -> ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in dict.fromkeys(o[0] for o in outputs)],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def run(model: ModelProto, x: np.ndarray, threads: int = 1) -> tuple[list[np.ndarray], list[str], int]:
    """Outputs, kernels and arena bytes."""
    with cnnengine.load(model, threads=threads) as loaded:
        values = loaded.run(None, {"x": x})
        segment = loaded._program.segments()[0]
        return values, [r.kernel for r in segment.plan.reports], segment.plan.arena_bytes
