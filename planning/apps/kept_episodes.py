"""Finished episodes of an evaluation, kept in a folder from which a stopped run resumes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planning.apps.embodiment import warn_of_embodiment
from planning.apps.episode_files import load_episode, save_episode
from planning.apps.own_encoder import open_world
from planning.errors import PlanError
from planning.options import EvalOptions
from planning.rollout import Episode, episode_seed
from worldmodel.checkpoints.loading import place
from worldmodel.models.model_hash import model_hash
from worldmodel.models.world_model import WorldModel
from worldmodel.shards import RECORD, Shard, begin_shard

log = logging.getLogger(__name__)

COMMAND = "eval"
"""Name of the command in the records of its folders."""
WITHOUT_EFFECT = ("workers", "out", "part", "rerun")
"""Options that do not change an episode."""


@dataclass(frozen=True)
class KeptEpisodes:
    """Episodes in `FOLDER/episodes/AGENT-SEED.npz`.

    Those that an exception ended, and those whose file is damaged, run again.
    """

    folder: Path
    """Folder of the record of what the episodes depend on."""
    seed: int
    """Seed of the evaluation."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no episode, or no record of what the episodes depend on."""
        has_record = (self.folder / RECORD).is_file()
        return not has_record or not any(self.folder.glob("episodes/*.npz"))

    def path(self, agent: str, index: int) -> Path:
        """Return the file of an episode."""
        return self._path(agent, episode_seed(self.seed, index))

    def load(self, agent: str, index: int) -> Episode | None:
        """Return a finished episode; None if it is missing, damaged or ended by an exception."""
        file = self.path(agent, index)
        if not file.is_file():
            return None
        try:
            episode = load_episode(file)
        except PlanError as error:
            log.warning("%s That episode runs again.", error)
            return None
        return None if episode.error else episode

    def missing(self, agent: str, indices: Iterable[int]) -> list[int]:
        """Return the indices of the episodes that are still to be run."""
        return [index for index in indices if self.load(agent, index) is None]

    def save(self, agent: str, episode: Episode) -> None:
        """Write an episode atomically."""
        save_episode(self._path(agent, episode.seed), episode)

    def clear(self) -> None:
        """Remove the episodes and their record, and the folder if it holds nothing else."""
        folder = self.folder / "episodes"
        for file in [*folder.glob("*.npz"), self.folder / RECORD]:
            file.unlink(missing_ok=True)
        with suppress(OSError):  # files of somebody else
            folder.rmdir()
        with suppress(OSError):
            self.folder.rmdir()

    def _path(self, agent: str, seed: int) -> Path:
        return self.folder / "episodes" / f"{agent}-{seed}.npz"


def open_hashed(options: EvalOptions) -> tuple[WorldModel, str]:
    """Return the placed model, and the hash of the weights as their file holds them."""
    warn_of_embodiment(options.model, options.scene.embodiment)
    world = open_world(options.model, "cpu", "float32")
    digest = model_hash(world)
    return place(world, options.device, options.precision), digest


def facts_of(
    options: EvalOptions, digest: str, world: WorldModel, agents: Iterable[str]
) -> dict[str, Any]:
    """Return all that the episodes of an evaluation depend on.

    Args:
        options: Resolved options.
        digest: Hash of the weights as their file holds them.
        world: Placed model; its data type may differ between machines with `precision=auto`.
        agents: Names of the planner and the baselines.
    """
    values = dataclasses.asdict(options)
    kept = {name: value for name, value in values.items() if name not in WITHOUT_EFFECT}
    weights = str(world.dynamics.dtype)
    return {"options": kept, "model_hash": digest, "weights": weights, "agents": tuple(agents)}


@contextmanager
def unfinished(out: Path, facts: dict[str, Any], seed: int) -> Iterator[KeptEpisodes]:
    """Keep the episodes of an evaluation in `OUT/unfinished`, and use those of a stopped run.

    The folder is removed at the end if it holds no episode.

    Raises:
        ConfigError: The folder holds episodes of other options or another model.
    """
    kept = KeptEpisodes(out / "unfinished", seed)
    if kept.is_empty:
        kept.clear()
    begin_shard(kept.folder, COMMAND, Shard(number=0, count=1), facts)
    try:
        yield kept
    finally:
        if kept.is_empty:
            kept.clear()
