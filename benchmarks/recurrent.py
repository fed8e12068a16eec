"""`cnnengine bench` for recurrent layers, and for a whole network that reads lines of text (CRNN).

    python benchmarks/recurrent.py --against onnxruntime --threads 1
    python benchmarks/recurrent.py lstm gru --against onnxruntime

Models are made on the spot: LSTM, GRU (its reset before and behind the product) and RNN in both directions, 80 steps of one
sequence, 64 inputs to 48 units and 512 to 256; and a small convolutional network whose columns are the steps of two LSTMs (Shi et
al. 2015, arXiv:1507.05717), for a line of 32 x 320 pixels. Names choose those that begin with them. Options and exit status are
those of the command.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import harness  # noqa: F401  puts tests/ on the path
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cnnengine.bench import Case
from cnnengine.cli.bench import add_options, execute
from cnnengine.errors import CNNEngineError

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS = 80


class Net:
    """A graph that grows node by node; weights are seeded, and scaled to keep values near one."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(12)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def weights(self, *shape: int) -> str:
        values = self.rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))
        return self.constant(values)

    def constant(self, values: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def recurrent(self, kind: str, x: str, size: int, hidden: int, **attributes: object) -> str:
        rows = GATES[kind] * hidden
        r = self.rng.standard_normal((2, rows, hidden), np.float32) / np.float32(np.sqrt(hidden))
        w = self.rng.standard_normal((2, rows, size), np.float32) / np.float32(np.sqrt(size))
        b = self.rng.standard_normal((2, 2 * rows), np.float32) * np.float32(0.1)
        arrays = [self.constant(a) for a in (w, r, b)]
        return self.add(kind, x, *arrays, hidden_size=hidden, direction="bidirectional", **attributes)

    def save(self, path: Path, shape: tuple[int, ...], result: str) -> None:
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
            self.constants,
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def layer(kind: str, size: int, hidden: int, **attributes: object) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        net = Net()
        net.save(path, (STEPS, 1, size), net.recurrent(kind, "x", size, hidden, **attributes))

    return make


def crnn(path: Path) -> None:
    net = Net()
    x = "x"
    channels = 1
    for out, window in ((64, (2, 2)), (128, (2, 2)), (256, (1, 1)), (256, (2, 1)), (512, (1, 1)), (512, (2, 1))):
        x = net.add("Conv", x, net.weights(out, channels, 3, 3), net.weights(out), pads=[1, 1, 1, 1])
        x = net.add("Relu", x)
        if window != (1, 1):
            x = net.add("MaxPool", x, kernel_shape=window, strides=window)
        channels = out
    x = net.add("Conv", x, net.weights(512, 512, 2, 2), net.weights(512))
    x = net.add("Relu", x)
    # (1, 512, 1, columns) -> (columns, 1, 512)
    x = net.add("Squeeze", x, net.constant(np.array([2])))
    x = net.add("Transpose", x, perm=[2, 0, 1])
    size = 512
    for _ in range(2):
        x = net.recurrent("LSTM", x, size, 256)
        x = net.add("Transpose", x, perm=[0, 2, 1, 3])
        x = net.add("Reshape", x, net.constant(np.array([0, 0, -1])))
        size = 512
    x = net.add("MatMul", x, net.weights(512, 37))
    x = net.add("Add", x, net.weights(37))
    net.save(path, (1, 1, 32, 320), x)


MODELS: dict[str, Callable[[Path], None]] = {
    "lstm_64_48": layer("LSTM", 64, 48),
    "lstm_512_256": layer("LSTM", 512, 256),
    "gru_64_48": layer("GRU", 64, 48),
    "gru_512_256": layer("GRU", 512, 256),
    "gru_linear_64_48": layer("GRU", 64, 48, linear_before_reset=1),
    "gru_linear_512_256": layer("GRU", 512, 256, linear_before_reset=1),
    "rnn_64_48": layer("RNN", 64, 48),
    "rnn_512_256": layer("RNN", 512, 256),
    "crnn": crnn,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what the names begin with, of {', '.join(MODELS)}")
    add_options(parser)
    options = parser.parse_args(argv)
    chosen = [name for name in MODELS if not options.names or name.startswith(tuple(options.names))]
    if not chosen:
        parser.error(f"no model begins with {' or '.join(options.names)}")
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        for name in chosen:
            path = Path(folder, f"{name}.onnx")
            MODELS[name](path)
            cases.append(Case(path, name))
        try:
            return execute(cases, options)
        except CNNEngineError as error:
            parser.error(str(error))
        except KeyboardInterrupt:
            return 130


if __name__ == "__main__":
    sys.exit(main())
