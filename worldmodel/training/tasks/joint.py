"""Train small world models on in-memory episodes: modes joint, frozen and finetune.

`mode=joint` trains a small encoder together with the predictor, with regularisers against collapse.
`mode=frozen` and `mode=finetune` start from a pretrained encoder (`worldmodel pretrain`): the first
trains only the predictor, the second trains both with the regularisers.

Shapes: B clips, T frames, N tokens, D width, S state, A action.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.checkpoints.io import Model, is_users, save
from worldmodel.data.memory import PoseLabels
from worldmodel.errors import ConfigError
from worldmodel.evaluation.object_errors import pose_errors
from worldmodel.models.config_dict import to_dict
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.object_head import ObjectHead
from worldmodel.models.world_model import WorldModel, build_frame_encoder
from worldmodel.specs import ActionSpec, Gripper
from worldmodel.training.batches import Batch
from worldmodel.training.config import FinetuneOptions, FrozenOptions, JointOptions
from worldmodel.training.distributed import Ranks
from worldmodel.training.metrics import Row
from worldmodel.training.objective import Objective, ObjectiveConfig
from worldmodel.training.rollouts import free_rollout
from worldmodel.training.small_models import (
    SmallOptions,
    Start,
    check_conventions,
    freeze_unused,
    new_object_head,
    open_start,
    small_dynamics,
    small_encoder,
    with_state_output,
)
from worldmodel.training.sources import Sources, open_memory
from worldmodel.training.task import ParameterGroup, PredictorTask, decayed_groups, part_of
from worldmodel.training.tasks.memory import MemoryTask

POWERS = (1, 2, 4, 8, 16)
"""Steps of a free rollout whose error is reported, beside the middle and the last one."""
NEW = Start()
"""No trained parts."""


def _check_head(options: SmallOptions, start: Start) -> None:
    """Check that weights that need an object head find one.

    Raises:
        ConfigError: There is no object head.
    """
    terms = options.object_head
    trains = terms.head_weight > 0 and not isinstance(options, FrozenOptions)
    needed = terms.head_match or terms.head_weight
    if needed and not trains and start.object_head is None:
        raise ConfigError(
            f"head_match={terms.head_match:g} and head_weight={terms.head_weight:g} need an object "
            "head, and there is none: set head_weight above 0 in mode=joint or mode=finetune, or "
            "warm_predictor=true with a world model that has one"
        )


class JointTask(MemoryTask, PredictorTask):
    """Trains a predictor on in-memory clips, with a new, frozen or fine-tuned encoder."""

    options: SmallOptions

    def __init__(
        self,
        options: SmallOptions,
        sources: Sources,
        start: Start = NEW,
        gripper: Gripper = "command",
    ) -> None:
        """Prepare a run.

        Args:
            options: Options of the mode.
            sources: Clips with frames at the encoder's image size.
            start: Trained parts; none in `mode=joint`.
            gripper: Gripper convention of the actions.
        """
        super().__init__(options, sources)
        self.start, self.gripper = start, gripper
        own = start.encoder is not None and is_users(start.encoder.config)
        self.users_encoder = copy.deepcopy(start.encoder) if own else None
        """Encoder of a user's class for the export, which no config can build; else None."""

    @classmethod
    def open(cls, options: SmallOptions, ranks: Ranks, given: Model | None = None) -> JointTask:
        """Open the encoder and the clips selected by the options.

        Args:
            options: Options of the run.
            ranks: Processes of the run.
            given: Model that `encoder=` names; None loads it.

        Raises:
            ConfigError: The object loss is set on data without object positions, the image size
                differs from the encoder's, or a weight needs an object head that is not there.
            DataError: There are no usable episodes.
        """
        start = open_start(options, given)
        if isinstance(options, JointOptions):
            image_size = options.encoder.image_size
        else:
            assert start.encoder is not None
            image_size = start.encoder.image_size[0]
        _check_head(options, start)
        head = options.object_head
        labels: PoseLabels = head.head_label if head.head_weight else "none"
        clips, unseen = open_memory(options.run, options.clips, image_size, ranks, labels=labels)
        if head.uses_simulator and not (clips.posed and unseen.posed):
            raise ConfigError(
                "head_label=simulator learns from a simulator's object poses, and not every "
                "episode has them: set head_label=hindsight, or collect new episodes"
            )
        terms = getattr(options, "regularizers", None)
        if terms and terms.object and not (clips.labelled and unseen.labelled):
            raise ConfigError(
                f"object={terms.object} learns from a simulator's object positions, and not every "
                "episode has them: set object=0, or use episodes of `worldmodel collect`"
            )
        gripper: Gripper = "command" if clips.sent else "difference"
        return cls(options, Sources(clips, unseen), start, gripper)

    def start_modules(self) -> Iterable[nn.Module]:
        """Return the trained parts that the run starts from."""
        parts = (self.start.encoder, self.start.dynamics, self.start.object_head)
        return [part for part in parts if part is not None]

    def build(self, device: torch.device) -> nn.Module:
        """Build or continue encoder, predictor and heads, initialising the encoder first."""
        options, self.device = self.options, device
        encoder = self.start.encoder
        if isinstance(options, JointOptions):
            encoder = small_encoder(options)
        assert encoder is not None
        is_frozen = isinstance(options, FrozenOptions)
        encoder.requires_grad_(not is_frozen)
        config = ObjectiveConfig(
            rollout=options.objective,
            regularizers=None if isinstance(options, FrozenOptions) else options.regularizers,
            object_head=options.object_head,
            augmentation=options.augmentation,
        )
        dynamics = self._dynamics(encoder)
        head = self._object_head(encoder)
        self.objective = Objective(dynamics, config, encoder, head).to(device)
        encoder.set_observation(self.observation(encoder, "flange"))
        if isinstance(options, FrozenOptions) and options.cache_latents:
            self._encode_sources(encoder)
        self._place_clips(device)
        return self.objective

    def _dynamics(self, encoder: FrameEncoder) -> LatentDynamics:
        """Return the dynamics to continue from, or a new one."""
        options, clips = self.options, self.sources.train
        found = self.start.dynamics
        if found is None:
            return small_dynamics(options, encoder, clips, self.gripper)
        sample = clips.batch(np.arange(1))
        action = ActionSpec(
            action_dim=sample["actions"].shape[-1],
            gripper=self.gripper,
            period_s=1 / options.clips.fps,
        )
        check_conventions(found, action, sample["states"].shape[-1])
        predicts = options.objective.predict_state > 0
        found = with_state_output(found) if predicts else found
        freeze_unused(found, predict_state=predicts)
        return found

    def _object_head(self, encoder: FrameEncoder) -> ObjectHead | None:
        """Return the object head: kept beside a frozen encoder, else trained if it has a weight."""
        head = self.start.object_head
        if isinstance(self.options, FrozenOptions):
            return head if head is None else head.requires_grad_(False)
        if not self.options.object_head.head_weight:
            return None
        views = len(self.options.clips.cameras)
        return new_object_head(encoder, views) if head is None else head.requires_grad_(True)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return all trained parameters, with a lower learning rate for a fine-tuned encoder."""
        if not isinstance(self.options, FinetuneOptions):
            return super().parameter_groups()
        assert self.objective.encoder is not None
        decay = self.options.optimizer.weight_decay
        encoder = list(self.objective.encoder.parameters())
        mine = {id(p) for p in encoder}
        rest = [p for p in self.objective.parameters() if id(p) not in mine]
        scale = self.options.encoder_lr_scale
        return decayed_groups(rest, decay) + decayed_groups(encoder, decay, scale)

    @torch.no_grad()
    def validate(self) -> Row:
        """Measure the losses of predictions, copies and shuffled actions, and errors in metres."""
        objective, batch = self.objective, self.held_out
        objective.eval()
        dynamics = objective.dynamics
        z_BTND = batch["features"] if "features" in batch else objective.encode(batch["frames"])
        z_BTND = z_BTND.float()  # under autocast, all but the networks' products is float32
        states_BTS, actions_BTA = batch["states"][:, :-1], batch["actions"]
        out_BTND = dynamics.predict(z_BTND[:, :-1], actions_BTA, states_BTS).float()
        wrong_BTND = dynamics.predict(z_BTND[:, :-1], actions_BTA.roll(1, 0), states_BTS).float()
        target = z_BTND[:, 1:]
        row = {
            "val_true": float((out_BTND - target).abs().mean()),
            "val_copy": float((z_BTND[:, :-1] - target).abs().mean()),
            "val_shuffled": float((wrong_BTND - target).abs().mean()),
        }
        row |= self._rollout_errors(z_BTND, batch)
        if objective.label_head is not None:
            errors = objective.object_errors(z_BTND, out_BTND, batch["objects"])
            row |= {name: float(value) for name, value in errors.items()}
        row |= self.action_error(z_BTND, batch["states"], actions_BTA)
        objective.train()
        return row

    def _rollout_errors(self, z_BTND: Tensor, batch: Batch) -> Row:
        """Measure free rollouts: their mean error, and the object head's, against its labels."""
        objective, steps = self.objective, batch["actions"].shape[1]
        start = z_BTND[:, 0], batch["states"][:, 0]
        out_BKND = free_rollout(objective.dynamics, *start, batch["actions"])
        wrong_BKND = free_rollout(objective.dynamics, *start, batch["actions"].roll(1, 0))
        copied_BKND = z_BTND[:, :1].expand_as(out_BKND)
        row = {
            f"val_free_{name}{k}": float((z[:, k - 1] - z_BTND[:, k]).abs().mean())
            for name, z in (("", out_BKND), ("shuffled_", wrong_BKND), ("copy_", copied_BKND))
            for k in sorted({*POWERS, (steps + 1) // 2, steps})
            if k <= steps
        }
        if objective.object_head is None or "labels" not in batch:
            return row
        for name, z, labels_BL4 in (
            ("encoded", z_BTND, batch["labels"]),
            ("imagined", out_BKND[:, -1], batch["labels"][:, -1]),
        ):
            error_m, turn_rad = pose_errors(objective.object_head.locate(z), labels_BL4)
            row[f"val_head_{name}_m"] = float(error_m.nanmedian())
            row[f"val_head_{name}_rad"] = float(turn_rad.nanmedian())
            if error_m.shape[-1] > 1 and error_m[..., 1].isfinite().any():
                row[f"val_head_{name}_second_m"] = float(error_m[..., :2].amax(-1).nanmedian())
        return row

    def export(self, path: Path, weights: dict[str, Tensor]) -> dict[str, object]:
        """Write the world model in half precision."""
        assert self.objective.encoder is not None
        config = self.objective.encoder.config
        if self.users_encoder is None:
            with torch.random.fork_rng(devices=[]):
                encoder = build_frame_encoder(config)
        else:
            encoder = self.users_encoder.set_observation(config.observation)
        encoder.load_state_dict(part_of(weights, "encoder"))
        head = self.objective.object_head
        if head is not None:
            head.load_state_dict(part_of(weights, "object_head"))
        # it reads the tokens of the frozen encoder alone
        home = self.start.home_head if isinstance(self.options, FrozenOptions) else None
        world = WorldModel(encoder, self.trained(weights), head, home_head=home)
        uses_label = self.objective.label_head is not None or self.start.simulator_label
        uses_label = uses_label or self.options.object_head.uses_simulator
        label = "yes" if uses_label else "no"
        save(path, world, notes={"simulator_label": label}, dtype=torch.float16)
        return {
            "parameters": sum(p.numel() for p in world.parameters()),
            "simulator_label": label,
            "model": to_dict(world.config),
        }
