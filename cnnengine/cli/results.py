"""How results are printed: a line of text, or a JSON object, for each sample."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..tasks import Described


def text_line(sample: str, described: Mapping[str, Described]) -> str:
    """`path<TAB>label probability<TAB>...`; with several outputs, each behind its name."""
    if len(described) == 1:
        return "\t".join([sample, *(value.as_text() for value in described.values())])
    return "\t".join([sample, *(f"{name}: {value.as_text()}" for name, value in described.items())])


def json_line(sample: str, described: Mapping[str, Described]) -> str:
    """One JSON object: `input` and, by name, `outputs`."""
    outputs = {name: value.as_json() for name, value in described.items()}
    return json.dumps({"input": sample, "outputs": outputs}, ensure_ascii=False, allow_nan=False)
