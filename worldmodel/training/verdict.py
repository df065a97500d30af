"""Verdict of a run in words and numbers, from its validations."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from worldmodel.training.metrics import Row

MARGIN = 0.02
"""Relative difference below which two losses count as equal."""
AXIS = re.compile(r"val_action_(error|zero)_((x|y|z)_m|((roll|pitch|yaw)_)?rad)$")
"""Metrics that have a table of their own."""
ROLLOUTS = {
    "recorded actions": re.compile(r"val_(?:step|free)_(\d+)"),
    "actions of other clips": re.compile(r"val_(?:shuffled_step|free_shuffled)_(\d+)"),
    "copy of the first frame": re.compile(r"val_(?:copy_step|free_copy)_(\d+)"),
}
"""How a roll-out was made -> names of its error at a step."""
HEALTH = {"feature_std", "colour_share"}
"""Metrics of the features at a validation, besides ranks."""
OVERFIT = 0.05
"""Rise of the held-out loss above its lowest value from which a run overfits; the loss of two
validations of one model on the same clips does not differ."""
LEAST_VALIDATIONS = 3
"""Number of validations below which a run's course is not judged."""
LEAST_TURN_RAD = 0.01
"""Mean recorded rotation [rad] below which planned turns are not judged: the data hold none."""

STILL = 1e-6
"""Loss of a copy, or of the mean, below which the features of the held-out data are all equal."""


@dataclass(frozen=True)
class Finding:
    """One judgement."""

    name: str
    good: bool
    text: str


def is_validation(name: str) -> bool:
    """Return whether a metric is measured on held-out clips."""
    return name.startswith(("val_", "probe_", "effective_rank")) or name in HEALTH


def last_validation(rows: Sequence[Row]) -> Row:
    """Return the last row with a validation; empty if there is none."""
    return next((row for row in reversed(rows) if any(map(is_validation, row))), {})


def is_detail(name: str) -> bool:
    """Return whether a metric is one of many by axis or by step, shown as a table or a curve."""
    by_step = any(pattern.fullmatch(name) for pattern in ROLLOUTS.values())
    return by_step or AXIS.match(name) is not None


def percent(change: float) -> str:
    """Format a relative change, such as 12 % or 0.4 %."""
    value = abs(100 * change)
    return f"{value:.0f} %" if value >= 10 else f"{value:.1f} %"


def difference(change: float) -> str:
    """Describe by how much a loss is higher or lower."""
    if abs(change) < 5e-4:
        return "the same"
    return f"{percent(change)} {'higher' if change > 0 else 'lower'}"


def _against(what: str, than: str, whose: str, loss: float, reference: float) -> Finding:
    """Judge whether the loss of a prediction is below that of a reference."""
    better = 1 - loss / max(reference, 1e-12)
    beats = better > MARGIN
    side = "below" if better >= 0 else "above"
    text = (
        f"{what} is {'better' if beats else 'NOT better'} than {than}: "
        f"loss {loss:.4f}, {percent(better)} {side} {whose} {reference:.4f}."
    )
    if reference < STILL:
        text = (
            f"{what} is NOT better than {than}, which is exact: the held-out frames have equal "
            f"features. Look at them (`worldmodel data view`): a still or dark camera, or features "
            f"that have collapsed."
        )
    return Finding("prediction", beats, text)


def judge_prediction(row: Row) -> list[Finding]:
    """Judge whether predictions beat a copy of the last frame and depend on actions."""
    if not {"val_true", "val_copy", "val_shuffled"} <= row.keys():
        return []
    true, copy, shuffled = row["val_true"], row["val_copy"], row["val_shuffled"]
    worse = shuffled / max(true, 1e-12) - 1
    listens = worse > MARGIN
    found = [
        _against("The prediction", "copying the last frame", "the copy's", true, copy),
        Finding(
            "actions",
            listens,
            f"The model {'uses' if listens else 'does NOT use'} its actions: with the "
            f"actions of other clips the loss is {shuffled:.4f}, {difference(worse)}.",
        ),
    ]
    keys = ("val_action_error_m", "val_action_zero_m")
    found += _compare(row, "planning", keys, "The error of planned moves is", "not moving")
    return found + _judge_turns(row)


def _judge_turns(row: Row) -> list[Finding]:
    """Judge planned rotations, where the recorded ones are large enough to tell."""
    if row.get("val_action_zero_rad", 0.0) < LEAST_TURN_RAD:
        return []
    error, other = (math.degrees(row[f"val_action_{name}_rad"]) for name in ("error", "zero"))
    good = error < other
    than = f"{'less' if good else 'NOT less'} than the {other:.1f} degrees of not turning."
    return [Finding("turning", good, f"The error of planned turns is {error:.1f} degrees, {than}")]


def judge_course(rows: Sequence[Row]) -> list[Finding]:
    """Judge over all validations whether the held-out loss rose again while training went on."""
    points = [(row["step"], row["val_true"]) for row in rows if "val_true" in row]
    if len(points) < LEAST_VALIDATIONS:
        return []
    step, best = min(points, key=lambda point: point[1])
    last = points[-1][1]
    rise = last / max(best, 1e-12) - 1
    overfits = rise > OVERFIT
    text = (
        f"The run OVERFITS: the held-out loss was lowest at step {step:.0f} and is "
        f"{percent(rise)} higher now. More episodes, stronger augmentation or fewer steps help."
        if overfits
        else f"The run does not overfit: the held-out loss is {difference(rise)} "
        f"{'as' if abs(rise) < 5e-4 else 'than'} its lowest, at step {step:.0f}."
    )
    return [Finding("overfitting", not overfits, text)]


def _compare(row: Row, name: str, keys: tuple[str, str], what: str, base: str) -> list[Finding]:
    """Judge whether an error [m] is less than that of a simpler answer."""
    if not set(keys) <= row.keys():
        return []
    error, other = (100 * row[key] for key in keys)
    good = error < other
    than = f"{'less' if good else 'NOT less'} than the {other:.1f} cm of {base}."
    return [Finding(name, good, f"{what} {error:.1f} cm, {than}")]


def judge_pretraining(row: Row, collapsed_std: float) -> list[Finding]:
    """Judge whether masked prediction learned and whether features collapsed."""
    if not {"val_loss", "val_mean", "feature_std", "effective_rank"} <= row.keys():
        return []
    loss, mean = row["val_loss"], row["val_mean"]
    std, rank = row["feature_std"], row["effective_rank"]
    alive = std >= collapsed_std
    return [
        _against("Masked prediction", "each position's mean", "the mean's", loss, mean),
        Finding(
            "features",
            alive,
            f"The features {'are healthy' if alive else 'have COLLAPSED'}: spread {std:.3f} "
            f"(collapsed below {collapsed_std}), effective rank {rank:.1f}.",
        ),
        *_judge_probes(row),
    ]


def _judge_probes(row: Row) -> list[Finding]:
    found = []
    for name, thing in (("tcp", "finger"), ("object", "object")):
        keys = (f"probe_{name}_m", f"probe_{name}_mean_m")
        what = f"A linear probe reads the {thing} position to"
        found += _compare(row, f"probe_{name}", keys, what, "the mean position")
    return found


def judge_clip_probes(row: Row, chance: Mapping[str, float]) -> list[Finding]:
    """Judge whether linear probes of whole clips read labels better than chance."""
    found = []
    for name, base in chance.items():
        share = row.get(f"probe_{name}")
        if share is not None:
            good = share > 1.5 * base
            text = f"A linear probe of whole clips reads the {name} in {100 * share:.0f} %"
            than = f"{'well above' if good else 'NOT well above'} the {100 * base:.0f} % of chance"
            found.append(Finding(f"probe_{name}", good, f"{text}, {than}."))
    return found


def as_dict(findings: list[Finding]) -> dict[str, object]:
    """Return the verdict for summary.json."""
    return {
        "good": all(finding.good for finding in findings) if findings else None,
        "findings": [asdict(finding) for finding in findings],
    }
