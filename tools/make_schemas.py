"""Write cnnengine/importer/schemas.py from the onnx package at hand: python tools/make_schemas.py"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx

from cnnengine.ops import INDEX

ROOT = Path(__file__).resolve().parents[1]
ENDLESS = 2**31 - 1
WIDTH = 130

HEAD = '''"""What ONNX says of the operators of `cnnengine.ops.INDEX` at their versions: reading a model need not import onnx.

Made by tools/make_schemas.py; the tests compare it with the onnx package. A line is: version, fewest and most inputs,
fewest and most outputs (* for any number), "deprecated" where it is, then the attributes as name:type (AttributeProto's numbers),
required ones with a !.
"""

from __future__ import annotations

OPSET = {opset}
"""The newest opset that is told here; models of newer ones are judged by the onnx package."""
IR_VERSION = {ir}

SCHEMAS: dict[str, tuple[str, ...]] = {{
'''


def lines(op_type: str, newest: int) -> Iterable[str]:
    """The operator's schemas, one text each, the oldest first."""
    found: dict[int, onnx.defs.OpSchema] = {}
    for version in range(1, newest + 1):
        try:
            schema = onnx.defs.get_schema(op_type, version, "")
        except Exception:  # SchemaError, whose base differs between releases: none so early
            continue
        found[schema.since_version] = schema
    for version, schema in sorted(found.items()):
        limits = [
            "*" if n == ENDLESS else str(n) for n in (schema.min_input, schema.max_input, schema.min_output, schema.max_output)
        ]
        attributes = [f"{n}{'!' * a.required}:{int(a.type.value)}" for n, a in sorted(schema.attributes.items())]
        yield " ".join([str(version), *limits, *["deprecated"] * schema.deprecated, *attributes])


def text() -> str:
    """The whole file."""
    newest = onnx.defs.onnx_opset_version()
    parts = [HEAD.format(opset=newest, ir=int(onnx.IR_VERSION))]
    for op_type in sorted({*INDEX, "Constant"}):
        found = [_wrapped(line) for line in lines(op_type, newest)]
        alone = f'    "{op_type}": ({found[0].strip()}),' if len(found) == 1 and "\n" not in found[0] else ""
        if 0 < len(alone) <= WIDTH:
            parts.append(f"{alone}\n")
        else:
            parts += [f'    "{op_type}": (\n', *(f"{line}\n" for line in found), "    ),\n"]
    return "".join([*parts, "}\n"])


def _wrapped(line: str, width: int = 118) -> str:
    if len(line) <= width:
        return f'        "{line}",'
    pieces, rest = [], line
    while len(rest) > width - 4:
        at = rest.rindex(" ", 0, width - 4) + 1
        pieces.append(rest[:at])
        rest = rest[at:]
    return "\n".join(['        "' + pieces[0] + '"', *[f'        "{p}"' for p in pieces[1:]], f'        "{rest}",'])


if __name__ == "__main__":
    (ROOT / "cnnengine" / "importer" / "schemas.py").write_text(text())
