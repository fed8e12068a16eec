"""Convolutions by products of bfloat16 numbers beside those of float32, as fractions of what the CPU does in registers.

    python benchmarks/conv_half.py [--threads 1] [--rounds 30] [--isa avx512bf16]

The kernels alone, in turn, without Winograd's algorithm: float32; planes of bfloat16 to planes of bfloat16; and planes of
float32, which are rounded while they are read, to planes of float32. Printed are the minimum and the median over the turns in
microseconds, the fraction of the peak of the minimum (of multiply-adds, or of products of pairs, measured before), and the
ratio of the float32 minimum to it. Needs an instruction set with such products; emulated ones (CNNENGINE_EMULATE=1) show that
it runs, not how fast.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from dense_half import measure

from cnnengine._kernels import dispatch, kernel
from cnnengine._kernels.pack import pack_bias
from cnnengine.layout import Halo, View, aligned_empty
from cnnengine.packing import PairPanels, Panels
from cnnengine.report.profile import fma_peak, pair_peak

FLOAT32, HALF = np.dtype(np.float32), np.dtype(np.uint16)
LAYERS = {
    # channels, output channels, pixels a side, kernel, stride
    "resnet50 1x1 64-256": (64, 256, 56, 1, 1),
    "resnet50 1x1 1024-256": (1024, 256, 14, 1, 1),
    "resnet50 1x1 2048-512": (2048, 512, 7, 1, 1),
    "resnet50 1x1 256-512 / 2": (256, 512, 56, 1, 2),
    "resnet50 3x3 128 / 2": (128, 128, 56, 3, 2),
    "resnet50 3x3 256": (256, 256, 14, 3, 1),
    "mobilenet_v2 1x1 144-24": (144, 24, 56, 1, 1),
    "mobilenet_v2 1x1 96-576": (96, 576, 14, 1, 1),
    "vgg16 3x3 512": (512, 512, 28, 3, 1),
}


def calls_of(c: int, o: int, side: int, k: int, stride: int, threads: int) -> dict[str, Callable[[], None]]:
    """The three kernels on random numbers."""
    rng, lanes = np.random.default_rng(0), dispatch.lanes()
    w, pad, out = rng.standard_normal((o, c, k, k), np.float32), k // 2, (side - 1) // stride + 1
    taps = [(0, i - pad, j - pad) for i in range(k) for j in range(k)]
    halo: Halo = ((0, 0), (pad, pad), (pad, pad))
    bias = pack_bias(None, o, aligned_empty)
    calls: dict[str, Callable[[], None]] = {}
    for name, dtype in (("float32", None), ("bfloat16", HALF), ("bfloat16, float32 planes", FLOAT32)):
        of = FLOAT32 if dtype is None else dtype
        xv, yv = View.planes((1, c, side, side), lanes, halo, dtype=of), View.planes((1, o, out, out), lanes, dtype=of)
        packed = (Panels(w, lanes) if dtype is None else PairPanels(w, lanes))(aligned_empty)
        x, y = aligned_empty(xv.size, of), aligned_empty(yv.size, of)
        x[:] = rng.standard_normal(xv.size).astype(np.float32) if of == FLOAT32 else rng.integers(0x3F00, 0x4000, xv.size)
        views = (xv, View.plain(packed.shape, packed.dtype), View.plain(bias.shape), None)
        launch = kernel("conv" if dtype is None else "bconv").build(views, (yv,), taps=taps, stride=(1, stride, stride))
        calls[name] = lambda launch=launch, x=x, packed=packed, y=y: launch(x, packed, bias, None, y, threads=threads)  # type: ignore[misc]
    return calls


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--isa", help="instruction set (default: the one in use)")
    parser.add_argument("--layers", default="", help="those whose names have this in them")
    options = parser.parse_args(argv)
    with dispatch.use_isa(options.isa or dispatch.current_isa()):
        if not dispatch.has_pairs():
            have = ", ".join(isa for isa in dispatch.available_isas() if "bconv" in dispatch.OWN.get(isa, ()))
            parser.error(f"{dispatch.current_isa()} has no products of bfloat16 numbers; here have: {have or 'none'}")
        peaks = fma_peak(options.threads), pair_peak(options.threads)
        rates = f"{peaks[0]:.0f} GFLOP/s of multiply-adds, {peaks[1]:.0f} of pairs"
        print(f"{dispatch.current_isa()}, {options.threads} threads: {rates}")
        print(f"{'layer':28}{'kernel':28}{'min us':>10}{'median':>10}{'of peak':>9}{'ratio':>8}")
        for layer, (c, o, side, k, stride) in LAYERS.items():
            if options.layers not in layer:
                continue
            flops = 2.0 * c * o * k * k * ((side - 1) // stride + 1) ** 2
            found = measure(calls_of(c, o, side, k, stride, options.threads), options.rounds)
            for name, (least, median) in found.items():
                share = flops / least / 1e9 / peaks[name != "float32"]
                print(f"{layer:28}{name:28}{least * 1e6:10.1f}{median * 1e6:10.1f}{share:9.0%}{found['float32'][0] / least:8.2f}")


if __name__ == "__main__":
    main()
