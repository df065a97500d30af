"""Deprecated module names from before version 0.2, as aliases that warn.

Importing `worldmodel` registers them as the last module finder.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

FORMER = {
    "worldmodel.container": "worldmodel.checkpoints.container",
    "worldmodel.hub": "worldmodel.checkpoints.registry",
    "worldmodel.download": "worldmodel.checkpoints.download",
    "worldmodel.convert": "worldmodel.checkpoints.convert",
    "worldmodel.frozen_encoder": "worldmodel.checkpoints.loading",
    "worldmodel.tensor_file": "worldmodel.checkpoints.tensor_file",
    "worldmodel.published": "worldmodel.checkpoints.published.loading",
    "worldmodel.published_positions": "worldmodel.checkpoints.published.positions",
    "worldmodel.published_sizes": "worldmodel.checkpoints.published.sizes",
    "worldmodel.huggingface_layout": "worldmodel.checkpoints.published.huggingface",
    "worldmodel.config": "worldmodel.models.config",
    "worldmodel.world_model": "worldmodel.models.world_model",
    "worldmodel.video_model": "worldmodel.models.frame_encoder",
    "worldmodel.models.predictor": "worldmodel.models.masked_predictor",
    "worldmodel.models.attention_choice": "planning.apps.attention_backends",
    "worldmodel.models.cpu_attention": "worldmodel.models.kernels.cpu_attention",
    "worldmodel.models.cpu_linear": "worldmodel.models.kernels.cpu_linear",
    "worldmodel.models.shared_past": "worldmodel.models.kernels.shared_prefix_attention",
    "worldmodel.train": "worldmodel.training.tasks.joint",
    "worldmodel.posttrain": "worldmodel.training.tasks.post",
    "worldmodel.post_data": "worldmodel.training.sources",
    "worldmodel.pretrain": "worldmodel.training.tasks.pretrain",
    "worldmodel.trainer": "worldmodel.training.loop",
    "worldmodel.sharded_checkpoint": "worldmodel.training.checkpointing",
    "worldmodel.distributed": "worldmodel.training.distributed",
    "worldmodel.schedules": "worldmodel.training.schedules",
    "worldmodel.slurm": "worldmodel.training.launching",
    "worldmodel.objective": "worldmodel.training.objective",
    "worldmodel.losses": "worldmodel.training.losses",
    "worldmodel.augmentation": "worldmodel.training.augmentation",
    "worldmodel.masking": "worldmodel.training.masking",
    "worldmodel.metrics": "worldmodel.evaluation.rollout_error",
    "worldmodel.energy_grid": "worldmodel.evaluation.energy_grid",
    "worldmodel.probe_eval": "worldmodel.evaluation.latent_probes",
    "worldmodel.feature_health": "worldmodel.evaluation.feature_health",
    "worldmodel.features": "worldmodel.perception.features.extract",
    "worldmodel.data.droid": "worldmodel.data.readers.droid",
    "worldmodel.data.rlds": "worldmodel.data.readers.rlds",
    "worldmodel.data.lerobot": "worldmodel.data.readers.lerobot",
    "worldmodel.data.layouts": "worldmodel.data.readers.layouts",
    "worldmodel.data.synthetic": "worldmodel.data.writers.synthetic",
    "worldmodel.data.clips": "worldmodel.data.sampling",
    "planning.cem": "planning.solvers.cem",
    "planning.icem": "planning.solvers.icem",
    "planning.mppi": "planning.solvers.mppi",
    "planning.gradient": "planning.solvers.gradient",
    "planning.nevergrad": "planning.solvers.nevergrad",
    "planning.device_cem": "planning.solvers.device_cem",
    "planning.optimisers": "planning.solvers.registry",
    "planning.costs": "planning.energy",
    "planning.live_view": "planning.report.live_view",
    "planning.cli.workplace": "planning.apps.workcell",
    "planning.cli.franka_place": "planning.apps.franka_workcell",
    "planning.cli.recheck": "planning.apps.safety_replay",
    "robot.limits": "robot.safety.limits",
    "robot.watchdog": "robot.safety.watchdog",
    "robot.link": "robot.safety.shared_state",
    "robot.franka_driver": "robot.franka.driver",
    "robot.franka_motion": "robot.franka.motion",
    "robot.realsense": "robot.cameras.realsense",
    "robot.grabber": "robot.cameras.threaded_camera",
    "envs.twin_camera": "envs.twin.camera",
    "envs.twin_joints": "envs.twin.joints",
    "envs.twin_server": "envs.twin.server",
    "envs.twin_touch": "envs.twin.touch",
}
"""Deprecated name -> current name."""


class _Alias(Loader):
    def __init__(self, name: str) -> None:
        self.name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        present = FORMER[self.name]
        text = f"{self.name} is now {present}; the former name will be removed in version 0.3"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        module = importlib.import_module(present)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # undo the import system's assignment of the alias's spec


class FormerNames(MetaPathFinder):
    """Module finder for deprecated names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of an alias, or None for any other name."""
        return ModuleSpec(fullname, _Alias(fullname)) if fullname in FORMER else None


def register() -> None:
    """Make the deprecated names importable; idempotent."""
    if not any(isinstance(finder, FormerNames) for finder in sys.meta_path):
        sys.meta_path.append(FormerNames())
