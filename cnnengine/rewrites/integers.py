"""The tables of rewrites for models that have integers in the place of floats: apart, so that no other model imports them."""

from __future__ import annotations

from .cancel_flips import cancel_flips
from .common_subexpressions import common_subexpressions
from .dead_code import dead_code
from .dynamic_convolutions import dynamic_convolutions
from .fold_beside_quantized import fold_beside_quantized
from .fuse_quantized_sums import fuse_quantized_sums
from .fuse_quantized_tables import fuse_quantized_tables
from .inline_if import inline_if
from .integer_products import integer_products
from .nodes import Rewrite
from .qlinear_convolutions import qlinear_convolutions
from .qlinear_products import qlinear_products
from .quantized_convolutions import quantized_convolutions
from .quantized_elements import quantized_elements
from .quantized_moves import quantized_moves
from .quantized_pools import quantized_pools
from .quantized_products import quantized_products
from .quantized_resizes import quantized_resizes
from .quantized_tables import quantized_tables
from .remove_identity import remove_identity
from .resolve_castlike import resolve_castlike

QUANTIZED: tuple[Rewrite, ...] = (
    resolve_castlike,
    remove_identity,
    fold_beside_quantized,
    inline_if,
    common_subexpressions,
    quantized_moves,
    quantized_tables,
    qlinear_convolutions,
    quantized_convolutions,
    dynamic_convolutions,
    quantized_elements,
    qlinear_products,
    quantized_products,
    integer_products,
    quantized_pools,
    quantized_resizes,
    cancel_flips,
    dead_code,
)
"""Run in this order until nothing changes, before those of PORTABLE: what they look for, integers around an operator on floats,
is gone once constants are folded and operators fused."""

QUANTIZED_SHAPED: tuple[Rewrite, ...] = (fuse_quantized_sums, fuse_quantized_tables)
"""Run after those of SHAPED for each set of shapes."""
