"""Compare labels in hindsight with the simulator's poses, by kind of episode; never used to train.

python benchmarks/hindsight.py data=runs/data/val [cache=DIR] [out=FILE]

Coverage is the share of frames with a label. A label belongs to the object that is nearest to it.
The yaw is compared modulo pi, on objects whose yaw the gripper follows (box, long_box, T).
"""

from __future__ import annotations

import collections
import sys
from pathlib import Path

import numpy as np
import torch
from option_words import read_words

from worldmodel.atomic_io import write_json
from worldmodel.data.dataset import open_row
from worldmodel.data.flat_arrays import index_folder
from worldmodel.data.hindsight import hindsight_labels
from worldmodel.evaluation.object_errors import yaw_difference

FAR_M = 0.03
"""Error above which a label counts as wrong [m]."""


def episode_errors(states_TS: np.ndarray, poses_TM4: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the position [T, m] and yaw [T, rad] errors of an episode; NaN without a label."""
    labels = hindsight_labels(states_TS)
    gap_TM = np.linalg.norm(labels.position_T3[:, None, :2] - poses_TM4[..., :2], axis=-1)
    nearest_T = np.where(np.isnan(gap_TM), np.inf, gap_TM).argmin(axis=1)
    each_T = np.arange(len(gap_TM))
    true_T = poses_TM4[each_T, nearest_T, 3]
    turn_T = yaw_difference(torch.from_numpy(labels.yaw_T), torch.from_numpy(true_T)).numpy()
    return gap_TM[each_T, nearest_T], turn_T


def summarise(gap_F: np.ndarray, turn_F: np.ndarray, episodes: int) -> dict[str, float | int]:
    """Return coverage and, if there is a label, errors of all frames of a kind."""
    known_F = np.isfinite(gap_F)
    found: dict[str, float | int] = {"episodes": episodes, "coverage": float(known_F.mean())}
    if not known_F.any():
        return found
    gap, turn = gap_F[known_F], turn_F[known_F]
    return found | {
        "median_cm": 100 * float(np.median(gap)),
        "p90_cm": 100 * float(np.quantile(gap, 0.9)),
        "above_3cm": float((gap > FAR_M).mean()),
        "yaw_median_deg": float(np.degrees(np.median(turn))),
    }


def main() -> None:
    """Measure all episodes of a folder, print the table and write it."""
    defaults = {"cache": "", "out": "benchmarks/results/hindsight.json"}
    given = read_words(sys.argv[1:], defaults, required=["data"])
    manifest = index_folder(Path(given["data"]), cache=given["cache"])
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = collections.defaultdict(list)
    for row in manifest.rows:
        episode = open_row(manifest, row)
        if episode.object_poses_TM4 is None:
            raise SystemExit(f"{row['path']} holds no object poses: collect new episodes")
        errors = episode_errors(episode.states_TS, episode.object_poses_TM4)
        for kind in ("all", episode.task):
            found[kind].append(errors)
    table = {
        kind: summarise(*(np.concatenate(part) for part in zip(*errors, strict=True)), len(errors))
        for kind, errors in sorted(found.items())
    }
    for kind, values in table.items():
        cells = "  ".join(
            f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}"
            for name, value in values.items()
        )
        print(f"{kind:14s} {cells}")
    write_json(Path(given["out"]), table)


if __name__ == "__main__":
    main()
