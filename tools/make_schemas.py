"""Write cnnengine/importer/schemas.py and other_schemas.py from the onnx package at hand: python tools/make_schemas.py"""

from __future__ import annotations

import subprocess
import sys
from base64 import a85encode
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx

from cnnengine.ops import DOMAINS, INDEX

ROOT = Path(__file__).resolve().parents[1]
ENDLESS = 2**31 - 1
WIDTH = 130

HEAD = '''"""What ONNX says of the operators of `cnnengine.ops.INDEX` at their versions: reading a model needs no onnx.

Made by tools/make_schemas.py; the tests compare it with the onnx package. A line is: version, fewest and most inputs,
fewest and most outputs (* for any number), "deprecated" where it is, then the attributes as name:type (AttributeProto's numbers),
required ones with a !.
"""

from __future__ import annotations

OPSET = {opset}
"""The newest opset that is told here."""
IR_VERSION = {ir}

SCHEMAS: dict[str, tuple[str, ...]] = {{
'''


OTHER_HEAD = '''"""What ONNX says of operators that `cnnengine.ops` lacks; made by tools/make_schemas.py as `schemas` is."""

from __future__ import annotations

OTHER: dict[str, dict[str, tuple[str, ...]]] = {
'''
BODIES_HEAD = '''"""Domain -> operator -> its schemas, the oldest first, in the lines of `schemas`."""

BODIES: dict[str, dict[str, tuple[tuple[int, str], ...]]] = {
'''
BODIES_TAIL = '''"""Domain -> operator -> the functions by which ONNX defines it, each with the first opset that has it.

A function is FunctionProto's bytes in Ascii85, with the schema's defaults among its attributes.
"""

'''
DEPENDENT_TAIL = '''"""Domain -> operators that ONNX defines by functions that depend on the call: the onnx package makes them."""
'''


def lines(op_type: str, newest: int, domain: str = "") -> Iterable[str]:
    """The operator's schemas, one text each, the oldest first."""
    found: dict[int, onnx.defs.OpSchema] = {}
    for version in range(1, newest + 1):
        try:
            schema = onnx.defs.get_schema(op_type, version, domain)
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


def others() -> dict[str, list[str]]:
    """Domain -> the operators that ONNX has and `cnnengine.ops` has not."""
    found: dict[str, set[str]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.name not in DOMAINS.get(schema.domain, {}) and (schema.domain or schema.name != "Constant"):
            found.setdefault(schema.domain, set()).add(schema.name)
    return {domain: sorted(names) for domain, names in sorted(found.items())}


def bodies(op_type: str, newest: int, domain: str) -> Iterator[tuple[int, str]]:
    """First opset and text of each function by which ONNX defines an operator whatever the call, the oldest first."""
    last = None
    for opset in range(1, newest + 1):
        try:
            schema = onnx.defs.get_schema(op_type, opset, domain)
        except Exception:  # SchemaError: none so early
            continue
        if not schema.has_function:
            continue
        made = schema.get_function_with_opset_version(opset)
        function = onnx.FunctionProto.FromString(made if isinstance(made, bytes) else made.SerializeToString())
        if not function.node:
            continue
        function.doc_string = ""
        del function.value_info[:]
        for node in function.node:
            node.doc_string = ""
        given = {a.name for a in function.attribute_proto}
        for name, attribute in schema.attributes.items():
            if attribute.default_value.type and name not in given:
                function.attribute_proto.append(attribute.default_value)
        text = a85encode(function.SerializeToString(deterministic=True)).decode()
        if text != last:
            yield opset, text
        last = text


def depends(op_type: str, domain: str) -> bool:
    """Whether a version of the operator is defined by a function that depends on the call."""
    schemas = onnx.defs.get_all_schemas_with_history()
    return any(s.has_context_dependent_function for s in schemas if (s.name, s.domain) == (op_type, domain))


def other_text() -> str:
    """The whole file of the other operators."""
    newest = onnx.defs.onnx_opset_version()
    parts = [OTHER_HEAD]
    functions, dependent = [BODIES_HEAD], []
    for domain, names in others().items():
        parts.append(f'    "{domain}": {{\n')
        of_domain = []
        for op_type in names:
            parts += [f'        "{op_type}": (\n', *(f"{_wrapped(x)}\n" for x in lines(op_type, newest, domain)), "        ),\n"]
            made = [f"            ({since}, {_pieces(text)}),\n" for since, text in bodies(op_type, newest, domain)]
            if made:
                of_domain += [f'        "{op_type}": (\n', *made, "        ),\n"]
        parts.append("    },\n")
        if of_domain:
            functions += [f'    "{domain}": {{\n', *of_domain, "    },\n"]
        several = [op_type for op_type in names if depends(op_type, domain)]
        if several:
            dependent.append(f'    "{domain}": ({", ".join(repr(n) for n in several)},),\n')
    parts += ["}\n", *functions, "}\n", BODIES_TAIL]
    return "".join([*parts, "DEPENDENT: dict[str, tuple[str, ...]] = {\n", *dependent, "}\n", DEPENDENT_TAIL])


def _pieces(text: str, width: int = 100) -> str:
    return "".join([f"\n                {text[at : at + width]!r}" for at in range(0, len(text), width)])


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
    FOLDER = ROOT / "cnnengine" / "importer"
    (FOLDER / "schemas.py").write_text(text())
    (FOLDER / "other_schemas.py").write_text(other_text())
    subprocess.run([sys.executable, "-m", "ruff", "format", FOLDER / "schemas.py", FOLDER / "other_schemas.py"], check=True)
