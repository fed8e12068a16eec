"""Faults planted in cnnengine's Python, one at a time: whether the tests that should notice each one do.

    PYTHONPATH=. python tools/mutants.py [--list] [WORD ...]

Each fault is one replacement in one file, and the tests that must fail while it is there. Nothing on disk is changed: pytest runs
in a process whose import of that file reads the changed text, so that no run, however it ends, leaves a fault behind. Tests
that look at cnnengine from processes of their own see the right text. First all these tests run once without any fault, and must
pass: a test that fails anyway catches nothing. WORDs choose the faults whose file, text or tests have one of them.

The exit status is 1 when a fault survives.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRELOADED = ("numpy.testing", "onnx.reference", "hypothesis.strategies")
"""What most tests import, which is nothing of cnnengine: read once, before the processes that have a fault in them are forked."""
NOTHING = 100
"""Exit status of a process that imported no file with a fault."""


@dataclass(frozen=True)
class Fault:
    """One wrong text.

    Attributes
    ----------
    path : str
        File, from the root.
    old, new : str
        What stands there once, and what is put in its place.
    tests : str
        Arguments of pytest.
    """

    path: str
    old: str
    new: str
    tests: str


FAULTS = (
    Fault(
        "cnnengine/plan/plan.py",
        "starts[ref.buffer] + view.nbytes",
        "view.nbytes",
        "tests/plan/test_place.py::test_a_concat_that_splits_alone_read",
    ),
    Fault(
        "cnnengine/plan/plan.py",
        "            life.last = time\n            if ref.buffer not in starts",
        "            if ref.buffer not in starts",
        "tests/plan/test_place.py::test_a_concat_that_splits_alone_read",
    ),
    Fault(
        "cnnengine/plan/arena.py",
        "at = max(at, other.offset + -(-other.nbytes // ALIGNMENT) * ALIGNMENT)",
        "at = max(at, other.offset + other.nbytes)",
        "tests/plan/test_assign.py",
    ),
    Fault(
        "cnnengine/plan/arena.py",
        "if at + life.nbytes <= other.offset:",
        "if at <= other.offset:",
        "tests/plan/test_assign.py",
    ),
    Fault(
        "cnnengine/plan/arena.py",
        "(first <= life.last) & (life.first <= last)",
        "(first < life.last) & (life.first <= last)",
        "tests/plan/test_assign.py",
    ),
    Fault(
        "cnnengine/plan/arena.py",
        "(first <= life.last) & (life.first <= last)",
        "(first <= life.last) & (life.first < last)",
        "tests/plan/test_assign.py",
    ),
    Fault(
        "cnnengine/plan/arena.py",
        "if p.first <= life.last and life.first <= p.last)",
        "if p.first < life.last and life.first <= p.last)",
        "tests/plan/test_assign.py",
    ),
    Fault(
        "cnnengine/plan/arena.py",
        "reached[:-1] + life.nbytes <= offset[beside]",
        "reached[:-1] <= offset[beside]",
        "tests/plan/test_assign.py",
    ),
    Fault(
        "cnnengine/plan/place.py",
        "if writers[target] == 1 and index not in gone and _fit(target, source, at):",
        "if False:",
        "tests/plan/test_place.py::test_pieces_are_ranges_of_their_source",
    ),
    Fault(
        "cnnengine/plan/place.py",
        "        and channel % whole.lanes == 0\n",
        "",
        "tests/plan/test_place.py::test_parts_that_end_within_a_block",
    ),
    Fault(
        "cnnengine/plan/place.py",
        "        and part.parent is None\n",
        "",
        "tests/plan/test_place.py::test_one_part_twice",
    ),
    Fault(
        "cnnengine/plan/place.py",
        "part.parent, part.block = whole, channel // whole.lanes",
        "part.parent, part.block = whole, 0",
        "tests/plan/test_place.py::test_a_concat_of_whole_blocks_copies_nothing",
    ),
    Fault(
        "cnnengine/plan/place.py",
        "root.halo = merge_halos(root.halo, part.halo)",
        "pass",
        "tests/plan/test_place.py::test_a_concat_that_splits_alone_read",
    ),
    Fault(
        "cnnengine/rewrites/fuse_pad.py",
        "any(w != (0, 0) for w in widths[:2]) or ",
        "",
        "tests/rewrites/test_portable.py::test_pads_that_must_stay_before_a_pool",
    ),
    Fault(
        "cnnengine/rewrites/fuse_pad.py",
        "any(w != (0, 0) for w in widths[:2])",
        "any(w != (0, 0) for w in widths[:1])",
        "tests/rewrites/test_portable.py::test_pads_that_must_stay_before_a_pool",
    ),
    Fault(
        "cnnengine/rewrites/fuse_pad.py",
        "any(w != (0, 0) for w in widths[:2])",
        "any(w != (0, 0) for w in widths[1:2])",
        "tests/rewrites/test_portable.py::test_pads_that_must_stay_before_a_pool",
    ),
    Fault(
        "cnnengine/rewrites/fuse_pad.py",
        " or any(min(w) < 0 for w in widths)",
        "",
        "tests/rewrites/test_portable.py::test_pads_that_must_stay_before_a_pool",
    ),
    Fault(
        "cnnengine/rewrites/fuse_pad.py",
        "    if op.ceil_mode:",
        "    if False:",
        "tests/rewrites/test_portable.py::test_pads_that_must_stay_before_a_pool",
    ),
    Fault(
        "cnnengine/rewrites/fuse_pad.py",
        "if any(old) and not op.count_include_pad:",
        "if False:",
        "tests/rewrites/test_portable.py::test_pads_that_must_stay",
    ),
    Fault(
        "cnnengine/rewrites/fuse_pad.py",
        "if any(p >= e for p, e in zip(pads, extent * 2, strict=True)):",
        "if False:",
        "tests/rewrites/test_portable.py::test_pads_that_must_stay_before_a_pool",
    ),
    Fault(
        "cnnengine/rewrites/fuse_pad.py",
        "if any(p >= e for",
        "if any(p > e for",
        "tests/rewrites/test_portable.py::test_pads_that_must_stay_before_a_pool",
    ),
    Fault(
        "cnnengine/rewrites/fuse_pad.py",
        'return replace(op, pads=pads, auto_pad="NOTSET", count_include_pad=1)',
        'return replace(op, pads=pads, auto_pad="NOTSET")',
        "tests/rewrites/test_portable.py::test_pads_go_into_average_pool",
    ),
    Fault(
        "cnnengine/rewrites/fuse_pad.py",
        'if op.mode != "constant":',
        "if False:",
        "tests/rewrites/test_portable.py::test_pads_that_must_stay",
    ),
    Fault(
        "cnnengine/rewrites/fuse_pad.py",
        "if filled.size != 1 or np.any(filled != 0):",
        "if False:",
        "tests/rewrites/test_portable.py::test_pads_that_must_stay",
    ),
    Fault(
        "cnnengine/rewrites/fuse_pad.py",
        "pads = tuple(int(o) + n for",
        "pads = tuple(max(int(o), n) for",
        "tests/rewrites/test_portable.py::test_pads_go_into_conv",
    ),
    Fault(
        "cnnengine/rewrites/fuse_pad.py",
        'if op.auto_pad not in ("NOTSET", "VALID", ""):',
        "if False:",
        "tests/rewrites/test_portable.py::test_pads_that_must_stay_before_a_pool",
    ),
    Fault(
        "cnnengine/rewrites/pattern.py",
        "TOLERANCE = 1e-5",
        "TOLERANCE = 1e-4",
        "tests/rewrites/test_portable.py::test_numbers_that_are_near_are_others",
    ),
    Fault(
        "cnnengine/rewrites/pattern.py",
        "TOLERANCE = 1e-5",
        "TOLERANCE = 1e-9",
        "tests/rewrites/test_portable.py::test_numbers_that_are_near_are_others",
    ),
    Fault(
        "cnnengine/rewrites/pattern.py",
        "            elif math.isclose(number, self.number, rel_tol=tolerance):",
        "            else:",
        "tests/rewrites/test_portable.py::test_numbers_that_are_near_are_others",
    ),
    Fault(
        "cnnengine/rewrites/pattern.py",
        "            if before == name:",
        "            if True:",
        "tests/rewrites/test_portable.py::test_near_misses_do_not_fuse",
    ),
    Fault(
        "cnnengine/rewrites/pattern.py",
        "yield number / constant if divides else",
        "yield number * constant if divides else",
        "tests/rewrites/test_portable.py::test_gates_fuse",
    ),
    Fault(
        "cnnengine/rewrites/pattern.py",
        "                yield -number, inside",
        "                yield number, inside",
        "tests/rewrites/test_pattern.py",
    ),
    Fault(
        "cnnengine/rewrites/fuse_gates.py",
        "math.isclose(op.alpha, 1 / 6, rel_tol=tolerance) and ",
        "",
        "tests/rewrites/test_portable.py::test_numbers_that_are_near_are_others",
    ),
    Fault(
        "cnnengine/rewrites/fuse_gates.py",
        "SQUARE = Product(0.044715, X, X)",
        "SQUARE = Product(0.0449, X, X)",
        "tests/rewrites/test_portable.py::test_numbers_that_are_near_are_others",
    ),
    Fault(
        "cnnengine/rewrites/fuse_gates.py",
        "CUBE = Product(0.044715, X, X, X) | Product(0.044715, X, X**2)",
        "CUBE = Product(0.0447, X, X, X) | Product(0.044715, X, X**2)",
        "tests/rewrites/test_portable.py::test_gates_fuse",
    ),
    Fault(
        "cnnengine/rewrites/fuse_gates.py",
        "| Product(0.044715, X**3)",
        "| Product(0.044715, X**2)",
        "tests/rewrites/test_portable.py::test_powers_that_are_no_cubes",
    ),
    Fault(
        "cnnengine/rewrites/fuse_gates.py",
        "== (0, 6)))",
        "!= (0, 7)))",
        "tests/rewrites/test_portable.py::test_near_misses_do_not_fuse",
    ),
    Fault(
        "cnnengine/rewrites/fuse_gates.py",
        "Product(math.sqrt(0.5), X)) + 1))",
        "Product(math.sqrt(0.5), X)) + 2))",
        "tests/rewrites/test_portable.py::test_gates_fuse",
    ),
    Fault(
        "cnnengine/rewrites/fuse_gates.py",
        "ROOT = math.sqrt(2 / math.pi)",
        "ROOT = math.sqrt(2 / 3.14)",
        "tests/rewrites/test_portable.py::test_gates_fuse",
    ),
    Fault(
        "cnnengine/rewrites/fuse_softmax_products.py",
        "for n in (node.inputs[0], softmax.inputs[0])",
        "for n in (node.inputs[0],)",
        "tests/rewrites/test_attention.py::test_near_misses",
    ),
    Fault(
        "cnnengine/rewrites/fuse_softmax_products.py",
        "for n in (node.inputs[0], softmax.inputs[0])",
        "for n in (softmax.inputs[0],)",
        "tests/rewrites/test_attention.py::test_near_misses",
    ),
    Fault(
        "cnnengine/rewrites/fuse_softmax_products.py",
        "if rank < 2 or axis not in (-1, rank - 1):",
        "if rank < 2:",
        "tests/rewrites/test_why.py::test_what_is_left_when_shapes_are_known",
    ),
    Fault(
        "cnnengine/rewrites/fuse_softmax_products.py",
        "        if not transposed:\n",
        "        if True:\n",
        "tests/rewrites/test_attention.py::test_one_kernel",
    ),
    Fault(
        "cnnengine/rewrites/fuse_softmax_products.py",
        "offset += int(index.reshape(-1)[0]) % view.shape[axis] * view.strides[axis]",
        "pass",
        "tests/rewrites/test_attention.py::test_one_kernel",
    ),
    Fault(
        "cnnengine/rewrites/fuse_softmax_products.py",
        "SoftmaxProduct(q, k, v, order, scale)",
        "SoftmaxProduct(q, k, v, order, 1.0)",
        "tests/rewrites/test_attention.py::test_one_kernel",
    ),
    Fault(
        "cnnengine/rewrites/fuse_attention.py",
        "if nodes.only_reader(inputs[i]) is None or not nodes.is_float32(inputs[i]):",
        "if not nodes.is_float32(inputs[i]):",
        "tests/rewrites/test_why.py::test_what_is_left_when_shapes_are_known",
    ),
    Fault(
        "cnnengine/rewrites/fuse_attention.py",
        "if nodes.only_reader(number[0]) is None or not nodes",
        "if not nodes",
        "tests/rewrites/test_attention.py::test_near_misses",
    ),
    Fault(
        "cnnengine/rewrites/fuse_attention.py",
        'for i in (1, 0) if node.op.op_type == "Mul" else (1,):',
        "for i in (1, 0):",
        "tests/rewrites/test_attention.py::test_near_misses",
    ),
    Fault(
        "cnnengine/rewrites/fuse_attention.py",
        'number if node.op.op_type == "Mul" else 1 / number',
        "number",
        "tests/rewrites/test_attention.py::test_one_kernel",
    ),
    Fault(
        "cnnengine/rewrites/fuse_attention.py",
        "            swapped ^= turned",
        "            swapped = turned",
        "tests/rewrites/test_attention.py::test_operands_read_elsewhere_too",
    ),
    Fault(
        "cnnengine/rewrites/fuse_attention.py",
        "scale *= 1.0 if number is None else number[1]",
        "scale = 1.0 if number is None else number[1]",
        "tests/rewrites/test_attention.py::test_one_kernel",
    ),
    Fault(
        "cnnengine/rewrites/convolutions.py",
        "bool(0 <= begins[0] < window.extent[0])",
        "bool(0 <= begins[0])",
        "tests/rewrites/test_chains.py::test_rows_of_padding_that_meet_no_row",
    ),
    Fault(
        "cnnengine/rewrites/convolutions.py",
        "bool(0 <= begins[0] < window.extent[0])",
        "bool(0 <= begins[0] <= window.extent[0])",
        "tests/rewrites/test_chains.py::test_rows_of_padding_that_meet_no_row",
    ),
    Fault(
        "cnnengine/ops/activation.py",
        "return self.alpha > 0 and super().lower(ctx)",
        "return super().lower(ctx)",
        "tests/ops/test_retired.py::test_celu_of_any_alpha",
    ),
    Fault(
        "cnnengine/ops/activation.py",
        "return self.kernel_activation() if self.alpha > 0 else None",
        "return self.kernel_activation()",
        "tests/ops/test_retired.py::test_celu_of_any_alpha",
    ),
    Fault(
        "cnnengine/ops/sample.py",
        "half = node.version >= 16 and ",
        "half = ",
        "tests/ops/test_sample.py::test_roi_align_places_its_regions_as_its_version_does",
    ),
    Fault(
        "cnnengine/ops/sample.py",
        'modes, "half_pixel") == "half_pixel"',
        'modes, "output_half_pixel") == "half_pixel"',
        "tests/ops/test_sample.py::test_roi_align_places_its_regions_as_its_version_does",
    ),
    Fault(
        "cnnengine/ops/integer_conv.py",
        "y = np.rint(sums.astype(np.float32) * ratio)",
        "y = np.floor(sums.astype(np.float32) * ratio + 0.5)",
        "tests/ops/test_quantized.py::test_halves_of_a_convolution_go_to_the_even_number",
    ),
    Fault(
        "cnnengine/ops/quantized_conv.py",
        "y = (np.rint(np.clip(y, np.float32(low), np.float32(high)))",
        "y = (np.floor(0.5 + np.clip(y, np.float32(low), np.float32(high)))",
        "tests/ops/test_quantized_conv.py",
    ),
    Fault(
        "cnnengine/ops/quantized.py",
        "y = np.rint(quotient)",
        "y = np.floor(quotient + 0.5)",
        "tests/ops/test_quantized.py::test_there_and_back",
    ),
    Fault(
        "cnnengine/ops/extend.py",
        'if node.version < 19 else ("constant", "reflect", "edge", "wrap")',
        'if node.version < 11 else ("constant", "reflect", "edge", "wrap")',
        "tests/ops/test_data_movement.py::test_the_modes_of_pad_by_version",
    ),
    Fault(
        "cnnengine/ops/extend.py",
        '("constant", "reflect", "edge") if node.version < 19',
        '("constant", "reflect", "edge") if node.version < 20',
        "tests/ops/test_data_movement.py::test_the_modes_of_pad_by_version",
    ),
    Fault(
        "cnnengine/ops/conv.py",
        "self.output_shape[2:] if named else self.output_shape",
        "self.output_shape",
        "tests/ops/test_retired.py::test_an_output_shape_with_and_without_batch_and_channels",
    ),
    Fault(
        "cnnengine/ops/conv.py",
        "named = len(self.output_shape) == len(spatial) + 2",
        "named = len(self.output_shape) > 3",
        "tests/ops/test_retired.py::test_an_output_shape_with_and_without_batch_and_channels",
    ),
    Fault(
        "cnnengine/ops/conv_choice.py",
        "strides != (1, 1) or max(dilations) > 4 or waste > 2",
        "max(dilations) > 4 or waste > 2",
        "tests/plan/test_winograd.py::test_choice_and_result",
    ),
    Fault(
        "cnnengine/ops/conv_choice.py",
        "strides != (1, 1) or max(dilations) > 4 or waste > 2",
        "strides != (1, 1) or waste > 2",
        "tests/plan/test_winograd.py::test_choice_and_result",
    ),
    Fault(
        "cnnengine/ops/conv_choice.py",
        "strides != (1, 1) or max(dilations) > 4 or waste > 2",
        "strides != (1, 1) or max(dilations) > 4",
        "tests/plan/test_winograd.py::test_choice_and_result",
    ),
    Fault(
        "cnnengine/preprocess/pictures.py",
        "levels * 255 + 32767",
        "levels * 255",
        "tests/preprocess/test_pictures.py::test_sixteen_bits_of_every_format",
    ),
    Fault(
        "cnnengine/preprocess/pictures.py",
        "levels * 255 + 32767",
        "levels * 255 + 65534",
        "tests/preprocess/test_pictures.py::test_sixteen_bits_of_every_format",
    ),
    Fault(
        "cnnengine/preprocess/pictures.py",
        "levels = np.asarray(image).astype(np.uint32)",
        "levels = np.asarray(image)",
        "tests/preprocess/test_pictures.py::test_sixteen_bits_of_every_format",
    ),
    Fault(
        "cnnengine/preprocess/pictures.py",
        'elif image.mode in ("I", "F"):',
        'elif image.mode in ("F",):',
        "tests/preprocess/test_pictures.py::test_thirty_two_bits_have_no_range",
    ),
    Fault(
        "cnnengine/session/binding.py",
        "return [v.numpy().copy() for v in self._results]",
        "return [v.numpy() for v in self._results]",
        "tests/session/test_session.py::test_bindings",
    ),
    Fault(
        "cnnengine/window.py",
        'return (small, total - small) if self.auto_pad == "SAME_UPPER" else',
        'return (small, total - small) if self.auto_pad == "SAME_LOWER" else',
        "tests/test_window.py::test_resolve",
    ),
    Fault(
        "cnnengine/window.py",
        "return tuple((k - 1) * d + 1 for k, d",
        "return tuple((k - 1) * d for k, d",
        "tests/test_window.py::test_resolve",
    ),
)


def plant(fault: Fault) -> list[str]:
    """Have imports of the fault's file read the changed text; the list has a name when one did."""
    read, planted = SourceFileLoader.get_code, []

    def get_code(loader: Any, name: str) -> CodeType | None:
        if not Path(loader.path).as_posix().endswith("/" + fault.path):
            return read(loader, name)
        text = loader.get_data(loader.path).decode()
        if text.count(fault.old) != 1:
            raise AssertionError(f"{fault.path} has {text.count(fault.old)} times {fault.old!r}")
        planted.append(name)
        code: CodeType = compile(text.replace(fault.old, fault.new), loader.path, "exec", dont_inherit=True)
        return code

    SourceFileLoader.get_code = get_code  # type: ignore[assignment,method-assign]
    return planted


def run(tests: list[str], fault: Fault | None = None) -> tuple[int, str]:
    """pytest's exit status in a process of its own, and what it printed."""
    with tempfile.TemporaryFile("w+") as printed:
        child = os.fork()
        if not child:
            try:
                os.dup2(printed.fileno(), 1)
                os.dup2(printed.fileno(), 2)
                planted = [] if fault is None else plant(fault)
                status = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--no-header", *tests]))
                os._exit(status if planted or fault is None else NOTHING)
            finally:
                os._exit(NOTHING + 1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        printed.seek(0)
        return status, printed.read()


def outcome(fault: Fault) -> str:
    """ "caught", "survives", or why neither can be said. A crash is no answer of a test's."""
    status, printed = run(fault.tests.split(), fault)
    if status in (0, 1):
        return ("survives", "caught")[status]
    return f"no tests were run ({status}):\n{printed[-2000:]}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant faults and see whether the tests notice.")
    parser.add_argument("words", nargs="*", help="only faults whose file, text or tests have one of these")
    parser.add_argument("--list", action="store_true", help="only show the faults")
    options = parser.parse_args()
    chosen = [
        f for f in FAULTS if not options.words or any(w in " ".join((f.path, f.old, f.new, f.tests)) for w in options.words)
    ]
    if options.list:
        for fault in chosen:
            print(f"{fault.path}: {fault.old!r} -> {fault.new!r}\n    {fault.tests}")
        print(len(chosen), "faults")
        return 0
    os.chdir(ROOT)
    for name in PRELOADED:
        importlib.import_module(name)
    began, count = time.monotonic(), 0
    status, printed = run(list(dict.fromkeys(word for fault in chosen for word in fault.tests.split())))
    if status:
        print(f"the tests must pass without any fault first ({status}):\n{printed[-4000:]}")
        return 2
    for fault in chosen:
        result = outcome(fault)
        count += result == "caught"
        print(f"{result:9} {fault.path}: {fault.old!r} -> {fault.new!r}", flush=True)
    print(f"{count} of {len(chosen)} faults caught ({100 * count / len(chosen):.0f} %), {time.monotonic() - began:.0f} s")
    return int(count < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
