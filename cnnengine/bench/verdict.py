"""What measured figures say: which peers count, the best of them, what is noise, and the sum over many models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .precision import INTEGER, LEVELS, RANK, TOLERANCE, lower, shown

AGAIN = "cnnengine-again"
"""A second process of cnnengine, the null row: how far apart two that are the same come out."""
BEHIND = 0.95
"""A ratio below this is behind the best peer."""
WHICH = ("min", "median")
CLASSES = ((1.0, "under 1 ms"), (10.0, "1 to 10 ms"), (math.inf, "10 ms and more"))
"""Models by our shortest time: in the smallest the cost of a call counts more than the kernels."""
AHEAD, SAME, LAGGING, MIXED = "ahead", "no difference", "behind", "mixed"

Results = Mapping[str, Mapping[str, Any]]
Record = Mapping[str, Any]


# ---------------------------------------------------------------- one model
def difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """Largest difference relative to the output's largest absolute value; infinite when count, size or finiteness differ."""
    scales = [float(np.abs(a.astype(np.float64)).max()) if a.size else 1.0 for a in ours]
    return _apart(ours, theirs, [scale or 1.0 for scale in scales])


def steps_apart(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], steps: Sequence[float | None]) -> float:
    """The same in quantisation steps; of an output whose step is unknown a `LEVELS`th of its range is one."""
    known = [*steps, *[None] * max(0, len(ours) - len(steps))]
    sizes = []
    for a, step in zip(ours, known, strict=False):
        wide = a.astype(np.float64)
        sizes.append(step or ((float(np.ptp(wide)) if a.size else 0.0) / LEVELS) or 1.0)
    return _apart(ours, theirs, sizes)


def _apart(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], units: Sequence[float]) -> float:
    if len(ours) != len(theirs):
        return math.inf
    worst = 0.0
    for a, b, unit in zip(ours, theirs, units, strict=True):
        if a.size != b.size:
            return math.inf
        if a.size:
            gap = np.abs(a.astype(np.float64).reshape(-1) - b.astype(np.float64).reshape(-1)).max()
            worst = max(worst, float(gap / unit)) if np.isfinite(gap) and np.isfinite(unit) else math.inf
    return worst


def compare_outputs(
    results: dict[str, dict[str, Any]],
    outputs: Mapping[str, Sequence[np.ndarray]],
    steps: Sequence[float | None] = (),
    tolerance: Mapping[str, float] = TOLERANCE,
) -> None:
    """To each peer's figures: how far its outputs are from ours, and how many times our time it took.

    The tolerance is that of the lower of the two precisions.
    """
    ours = results["cnnengine"]
    for name, result in results.items():
        if name == "cnnengine":
            continue
        gap = difference(outputs["cnnengine"], outputs[name])
        result["difference"] = gap if math.isfinite(gap) else None  # JSON has no infinity
        precision = lower(precision_of(ours), precision_of(result))
        if precision in INTEGER:
            gap = steps_apart(outputs["cnnengine"], outputs[name], steps)
            result["steps"] = gap if math.isfinite(gap) else None
        result["agrees"] = gap <= tolerance[precision]
        for which in WHICH:
            result[f"ratio_{which}"] = result[f"{which}_ms"] / ours[f"{which}_ms"]


def precision_of(result: Mapping[str, Any]) -> str:
    return str(result.get("precision", "float32"))


def why_not(name: str, results: Results, any_precision: bool = False) -> str:
    """Why a peer that ran does not count; "" of one that does."""
    result = results[name]
    if "agrees" not in result:
        return "there is nothing to compare it with"
    if not result["agrees"]:
        if "steps" in result:
            far = "in size or finiteness" if result["steps"] is None else f"by {result['steps']:.1f} steps"
        else:
            far = "in size or finiteness" if result.get("difference") is None else f"by {result['difference']:.1e}"
        return f"its outputs differ {far}"
    theirs, ours = precision_of(result), precision_of(results["cnnengine"])
    if RANK[theirs] < RANK[ours] and not any_precision:
        return f"{shown(theirs)} is a lower precision than our {shown(ours)}"
    return ""


def left_out(name: str, results: Results) -> str:
    """`why_not`, as it was decided when the model was measured."""
    stored = results[name].get("left_out")
    return why_not(name, results) if stored is None else str(stored)


def peers_in(results: Results) -> list[str]:
    return [name for name in results if name not in ("cnnengine", AGAIN)]


def best_peer(results: Results, any_precision: bool = False) -> dict[str, dict[str, Any] | None]:
    """The fastest peer that counts, by its minimum and by its median, with its time over ours.

    Outputs must agree, and the precision be ours or a higher one unless any shall count.
    """
    found: dict[str, dict[str, Any] | None] = {}
    counted = [name for name in peers_in(results) if not why_not(name, results, any_precision)]
    for which in WHICH:
        ratios = {name: results[name][f"ratio_{which}"] for name in counted}
        best = min(ratios, key=ratios.__getitem__, default=None)
        found[which] = None if best is None else {"engine": best, "ratio": ratios[best]}
    return found


def noise(results: Results) -> dict[str, float] | None:
    """How far apart two processes of cnnengine came out, as a factor of at least 1, by minima and by medians.

    The largest of three: over all turns, over the even ones and over the odd ones. None where the null row did not run.
    """
    if "cnnengine" not in results or AGAIN not in results:
        return None
    ours, again = results["cnnengine"], results[AGAIN]
    turns = list(zip(ours.get("turns", ()), again.get("turns", ()), strict=False))
    found = {}
    for which in WHICH:
        key = f"{which}_ms"
        pairs = [(ours[key], again[key])]
        for half in (turns[0::2], turns[1::2]) if len(turns) > 1 else ():
            if which == "min":
                pairs.append((min(a[key] for a, _ in half), min(b[key] for _, b in half)))
            else:
                pairs.append((_middle(a[key] for a, _ in half), _middle(b[key] for _, b in half)))
        found[which] = max(max(a / b, b / a) for a, b in pairs)
    return found


def _middle(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def judged(ratio: float, noise: float) -> str:
    """A ratio within the noise of 1 is no difference."""
    return AHEAD if ratio > noise else LAGGING if ratio * noise < 1 else SAME


def verdict(best: Mapping[str, Mapping[str, Any] | None], noise: Mapping[str, float] | None) -> dict[str, str] | None:
    """By minima, by medians, and by both: "mixed" where they do not say the same. None where no peer counts."""
    found = {}
    for which in WHICH:
        peer = best[which]
        if peer is None:
            return None
        found[which] = judged(peer["ratio"], (noise or {}).get(which, 1.0))
    return found | {"both": found["min"] if found["min"] == found["median"] else MIXED}


def failed(record: Record) -> bool:
    """Whether cnnengine did not run the model, its two processes differ, or no peer gives what it gives."""
    results = record["engines"]
    if "cnnengine" not in results or not results.get(AGAIN, {}).get("agrees", True):
        return True
    agreements = [results[name]["agrees"] for name in peers_in(results) if "agrees" in results[name]]
    return bool(agreements) and not any(agreements)


def not_compared(record: Record, absent: Mapping[str, str] | None = None) -> str:
    """Why no peer counts, peer by peer; "" where one does."""
    if record["best_peer"]["min"] is not None:
        return ""
    results = record["engines"]
    if "cnnengine" not in results:
        return "cnnengine did not run"
    reasons = []
    for name in peers_in(results):
        ratios = " and ".join(f"{results[name][f'ratio_{w}']:.2f} times our {w}" for w in WHICH if f"ratio_{w}" in results[name])
        why = left_out(name, results)
        reasons.append(f"{name}: {why}" + f" ({ratios})" * bool(ratios))
    missing = {**(absent or {}), **record["skipped"]}
    reasons += [f"{name}: {reason}" for name, reason in missing.items() if name not in ("cnnengine", AGAIN)]
    return "; ".join(reasons) or "no peer was asked for"


def below(record: Record, ratio: float) -> bool:
    """Whether the best peer's time over ours is less than this, by minima or by medians, by more than the noise of that kind."""
    margins = record.get("noise") or {}
    best = [(record["best_peer"][which], margins.get(which, 1.0)) for which in WHICH]
    return any(peer is not None and peer["ratio"] * margin < ratio for peer, margin in best)


# ---------------------------------------------------------------- many models
def mean(values: Iterable[float]) -> float | None:
    """Geometric mean; None of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def size_class(record: Record) -> str:
    """One of `CLASSES`."""
    ours = record["engines"]["cnnengine"]["min_ms"]
    return next(name for limit, name in CLASSES if ours < limit)


def compared(records: Iterable[Record]) -> list[Record]:
    """Those of which a peer counts."""
    return [record for record in records if record["best_peer"]["min"] is not None]


def verdict_of(record: Record) -> str:
    """By both; of a record without a null row every difference counts."""
    found = record.get("verdict") or verdict(record["best_peer"], record.get("noise"))
    return found["both"] if found else ""


def by_class(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The means and verdicts of each class of size that occurs, then of all."""
    counted = compared(records)
    groups = [(name, [r for r in counted if size_class(r) == name]) for _, name in CLASSES]
    result = []
    for name, members in [*groups, ("all", counted)]:
        if members:
            verdicts = [verdict_of(record) for record in members]
            means = {which: mean(r["best_peer"][which]["ratio"] for r in members) for which in WHICH}
            counts = {kind: verdicts.count(kind) for kind in (AHEAD, SAME, LAGGING, MIXED)}
            result.append({"class": name, "models": len(members), **means, **counts})
    return result


def coverage(records: Sequence[Record], absent: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Of each peer on how many models it ran and counted, its mean times over ours there, and why it is missing elsewhere.

    Beside its own means, "best_with" and "best_without" are the means of the best peer's ratios, by our deciding minima, over the
    models where it counted and over the others: a mean over models that a strong peer cannot run flatters.
    """
    ours = [record for record in records if "cnnengine" in record["engines"]]
    names = list(dict.fromkeys([name for r in records for name in (*peers_in(r["engines"]), *r["skipped"])]))
    result = {}
    for name in [*(n for n in names if n not in ("cnnengine", AGAIN)), *(n for n in absent or {} if n not in names)]:
        ran = [r for r in ours if name in r["engines"]]
        counted = [r for r in ran if not left_out(name, r["engines"])]
        others = [r for r in compared(ours) if not any(r is one for one in counted)]
        missing = {r["model"]: r["skipped"][name] for r in records if name in r["skipped"]}
        missing |= {r["model"]: why for r in ran if (why := left_out(name, r["engines"]))}
        result[name] = {
            "precisions": sorted({precision_of(r["engines"][name]) for r in ran}, key=RANK.__getitem__),
            "ran": len(ran),
            "counted": len(counted),
            "of": len(records),
            **{which: mean(r["engines"][name][f"ratio_{which}"] for r in counted) for which in WHICH},
            "best_with": mean(r["best_peer"]["min"]["ratio"] for r in compared(counted)),
            "best_without": mean(r["best_peer"]["min"]["ratio"] for r in others),
            "missing": missing,
            **({"absent": absent[name]} if absent and name in absent else {}),
        }
    return result


def overall(records: Sequence[Record], absent: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What several models say together.

    Returns
    -------
    dict
        Per "min" and "median": ``geometric_mean`` of the ratios to the best peer, ``models`` (how many were compared) and
        ``behind``, the models whose ratio is under 0.95. "classes": the same by size, with the count of verdicts. "peers": on
        how many models each ran, and why not on the others. "not_compared": models without a peer that counts, each with why.
    """
    counted = compared(records)
    result: dict[str, Any] = {}
    for which in WHICH:
        ratios = [(r["model"], r["best_peer"][which]["ratio"]) for r in counted]
        behind = [name for name, ratio in ratios if ratio < BEHIND]
        result[which] = {"geometric_mean": mean(ratio for _, ratio in ratios), "models": len(ratios), "behind": behind}
    result["classes"] = by_class(records)
    result["peers"] = coverage(records, absent)
    result["not_compared"] = {r["model"]: why for r in records if (why := not_compared(r, absent))}
    return result
