"""`worldmodel merge`: join the shards of `data index`, `data prepare`, `features` or `eval`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from planning.errors import PlanError
from planning.ranges import check_fields


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel merge`."""

    out: str = field(metadata={"takes_lock": True})
    """Output of the command that was split, as it was given there; its shards are in OUT.shards,
    which is kept and may be deleted afterwards."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.out:
            raise PlanError("out is empty. Give out=OUT, as it was given to the shards.")


def run(options: Options) -> int:
    """Join the shards of an output and print the summary."""
    from worldmodel.output_guard import output_guard
    from worldmodel.shards import read_shards

    out = Path(options.out)
    command = read_shards(out)[0][1].command
    if command not in MERGES:
        raise PlanError(
            f"The shards of {out} are of {command!r}. `worldmodel merge` joins those of: "
            f"{', '.join(MERGES)}."
        )
    with output_guard(out, is_file=command == "features"):
        return MERGES[command](out) or 0


def _merge_index(out: Path) -> None:
    from worldmodel.data.index_files import merge_index

    print(json.dumps(merge_index(out), indent=2))


def _merge_prepared(out: Path) -> None:
    from worldmodel.data.prepare_merge import merge_prepared

    print(json.dumps(merge_prepared(out), indent=2))


def _merge_features(out: Path) -> None:
    from planning.cli.features import print_result
    from planning.cli.summary_beside import summary_path, write_summary
    from worldmodel.perception.features.merge import merge_features

    path = summary_path(out, "features")
    result, made_by = merge_features(out)
    write_summary(path, "features", {**made_by, **asdict(result), "out": str(out)})
    print_result(out, result)


def _merge_evaluation(out: Path) -> int:
    from planning.apps.eval_shards import merge_evaluation
    from planning.cli.eval import print_evaluation, status_of

    summary, page = merge_evaluation(out)
    print_evaluation(summary, page)
    return status_of(summary)


MERGES: dict[str, Callable[[Path], int | None]] = {
    "data index": _merge_index,
    "data prepare": _merge_prepared,
    "features": _merge_features,
    "eval": _merge_evaluation,
}
"""Command -> how its shards are joined; it may return an exit status."""
