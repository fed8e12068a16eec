"""Write docs/operators.md: what each operator's classes and tables say, and what ONNX's conformance suite measured.

python docs/make_operators.py           # run the suite and write the page
python docs/make_operators.py --check   # say whether the page is what it would write
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    from conformance.suite import Record

PAGE = Path(__file__).with_name("operators.md")

HEAD = """# Operators

Written by `python docs/make_operators.py`, from the index of operators, the table of checked fallbacks and the conformance suite
of onnx {version}: {passed} of {count} cases pass. {excluded} others have no right answer and are left out (random values, and
gradients). A test fails when this page is stale.

- **versions**: the operator's own versions that are understood, by the opset in which each came.
- **by**: *class*, an operator of `cnnengine.ops`; *function*, the function by which ONNX defines it, in its place; *fallback*,
  onnx.reference, for what `tests/ops/test_fallback_cases.py` checks.
- **cases**: cases of the suite with such a node that pass, of all there are.
- **compiled**, **host**, **fallback**: how those ran: by kernels alone, with some node in NumPy, or some by onnx.reference.
- **element types**: of the inputs of those cases.

A case that runs on the host is often one of a type or rank that networks do not have: kernels compute float32, in which half
precision is computed too, and move all types.
"""


def versions_of(op_type: str, domain: str) -> list[int]:
    """The versions that ONNX has of an operator."""
    every = onnx.defs.get_all_schemas_with_history()
    return sorted({s.since_version for s in every if s.name == op_type and s.domain == domain and not s.deprecated})


def rows() -> list[tuple[str, str, list[int], str]]:
    """(domain, operator, versions, by) of everything that runs."""
    from cnnengine.importer.more_schemas import MORE
    from cnnengine.ops import INDEX, lookup
    from cnnengine.ops.fallback import ALLOWED

    found: dict[tuple[str, str], tuple[list[int], str]] = {}
    for name in INDEX:
        cls = lookup(name)
        versions = versions_of(name, "")
        if cls is not None and versions:
            found["", name] = ([v for v in versions if v >= cls.min_version], "class")
    for domain, operators in MORE.items():
        for name, lines in operators.items():
            since = [int(line.split()[0]) for line in lines if "deprecated" not in line.split()]
            found[domain, name] = (sorted({*since, *found.get((domain, name), ([], ""))[0]}), "class")
    for schema in onnx.defs.get_all_schemas():
        key = (schema.domain, schema.name)
        if key in found:
            continue
        versions = [v for v in versions_of(schema.name, schema.domain) if is_function(schema.name, schema.domain, v)]
        if versions:
            found[key] = (versions, "function")
    for (domain, name), allowed in ALLOWED.items():
        versions, by = found.get((domain, name), ([], ""))
        found[domain, name] = (sorted({*versions, *allowed}), ", ".join(filter(None, (by, "fallback"))))
    return sorted((domain, name, versions, by) for (domain, name), (versions, by) in found.items())


def is_function(op_type: str, domain: str, version: int) -> bool:
    """Whether ONNX defines this version of an operator by a function, be it one that depends on the call."""
    schema = onnx.defs.get_schema(op_type, version, domain)
    return bool(schema.has_function or schema.has_context_dependent_function)


def page(records: Iterable[Record], excluded: int) -> str:
    """The whole page."""
    records = list(records)
    by_operator: dict[str, list[Record]] = {}
    for record in records:
        for operator in record.operators:
            by_operator.setdefault(operator, []).append(record)
    lines = [HEAD.format(version=onnx.__version__, passed=sum(r.passed for r in records), count=len(records), excluded=excluded)]
    domain_now = None
    for domain, name, versions, by in rows():
        if domain != domain_now:
            lines.append(f"\n## {domain or 'ai.onnx'}\n")
            lines.append("| operator | versions | by | cases | compiled | host | fallback | element types |")
            lines.append("|---|---|---|---|---|---|---|---|")
            domain_now = domain
        found = by_operator.get(f"{domain}.{name}" if domain else name, [])
        passed = [r for r in found if r.passed]
        if by == "function" and not passed:  # its nodes may not all run
            continue
        counts = [sum(r.runs == runs for r in passed) for runs in ("compiled", "host", "fallback")]
        types = sorted({t for r in passed for t in r.types})
        cells = [name, " ".join(map(str, versions)), by, f"{len(passed)} of {len(found)}" if found else "none"]
        cells += [str(c) if c else "" for c in counts]
        lines.append(f"| {' | '.join((*cells, ' '.join(types)))} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is stale")
    options = parser.parse_args()
    root = PAGE.parents[1]
    sys.path[:0] = [str(root), str(root / "tests")]
    from conformance.suite import EXCLUDED, by_name, record

    text = page([record(name) for name in by_name()], len(EXCLUDED))
    if options.check:
        return int(text != PAGE.read_text())
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
