"""Train small world models on in-memory episodes: modes joint, frozen and finetune.

`mode=joint` trains a small encoder together with the predictor, with regularisers against collapse.
`mode=frozen` and `mode=finetune` start from a pretrained encoder (`worldmodel pretrain`): the first
trains only the predictor, the second trains both with the regularisers.

Shapes: B clips, T frames, N tokens, D width, S state, A action.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.checkpoints.io import save
from worldmodel.constants import POSE_DIM
from worldmodel.data.clip_source import ClipSource
from worldmodel.errors import ConfigError
from worldmodel.models.config import EncoderConfig, PredictorConfig
from worldmodel.models.config_dict import to_dict
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.frame_encoder import FrameEncoder, VideoEncoder
from worldmodel.models.model_config import DynamicsConfig, FrameEncoderConfig, Scaling
from worldmodel.models.world_model import WorldModel, build_frame_encoder
from worldmodel.specs import ActionSpec, Gripper, ObservationSpec
from worldmodel.training.batches import Batch
from worldmodel.training.config import FinetuneOptions, FrozenOptions, JointOptions
from worldmodel.training.distributed import Ranks
from worldmodel.training.metrics import Row
from worldmodel.training.objective import Objective, ObjectiveConfig
from worldmodel.training.schedules import warmup_flat_cosine
from worldmodel.training.sources import Sources, choose_clips, open_encoder, open_memory
from worldmodel.training.task import ParameterGroup, PredictorTask, decayed_groups, part_of

SmallOptions = JointOptions | FrozenOptions | FinetuneOptions
SCALE_CLIPS = 2048
"""Number of clips from which state and action scales are estimated."""


def measure_scaling(clips: ClipSource, seed: int) -> tuple[Scaling, int, int]:
    """Estimate state offset and scale, and action scale, from a sample of clips.

    Returns:
        Scaling, state size and action size.
    """
    sample = clips.batch(choose_clips(clips, SCALE_CLIPS, seed))
    states, actions = sample["states"], sample["actions"]
    states_FS = states.reshape(-1, states.shape[-1])
    actions_FA = actions.reshape(-1, actions.shape[-1])
    is_pose = (states_FS.shape[1], actions_FA.shape[1]) == (POSE_DIM, POSE_DIM)
    measure = _pose_scales if is_pose else _plain_scales
    offset, scale, action = (tuple(map(float, row)) for row in measure(states_FS, actions_FA))
    scaling = Scaling(
        state_offset=offset, state_scale=scale, action_scale=action, wrap_angles=is_pose
    )
    return scaling, states_FS.shape[1], actions_FA.shape[1]


def _plain_scales(states_FS: np.ndarray, actions_FA: np.ndarray) -> tuple[np.ndarray, ...]:
    return states_FS.mean(0), states_FS.std(0), actions_FA.std(0)


def _pose_scales(states_FS: np.ndarray, actions_FA: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the scales of DROID poses, with unwrapped angles and known gripper ranges."""
    angles = states_FS[:, 3:6]
    middle = np.arctan2(np.sin(angles).mean(0), np.cos(angles).mean(0))
    wrapped = (angles - middle + np.pi) % (2 * np.pi) - np.pi
    offset = np.concatenate([states_FS[:, :3].mean(0), middle, [0.0]])
    scale = np.concatenate([states_FS[:, :3].std(0), np.maximum(wrapped.std(0), 0.15), [0.4]])
    action = np.concatenate(
        [actions_FA[:, :3].std(0), np.maximum(actions_FA[:, 3:6].std(0), 0.05), [0.5]]
    )
    return offset, scale, action


def small_encoder(options: JointOptions) -> VideoEncoder:
    """Build the small single-frame encoder of `mode=joint`."""
    sizes = options.encoder
    config = EncoderConfig(
        image_size=(sizes.image_size, sizes.image_size),
        num_frames=1,
        patch_size=sizes.patch_size,
        tubelet_size=1,
        embed_dim=sizes.encoder_dim,
        depth=sizes.encoder_depth,
        num_heads=sizes.encoder_heads,
        rope="interleaved",
        stem="conv",
        stem_channels=sizes.stem_channels,
        affine_norm=False,
    )
    spec = ObservationSpec(image_size=config.image_size, transform="droid", frames_per_token=1)
    return VideoEncoder(FrameEncoderConfig(encoder=config, observation=spec))


def small_dynamics(
    options: SmallOptions, encoder: FrameEncoder, clips: ClipSource, gripper: Gripper
) -> LatentDynamics:
    """Build a residual predictor for an encoder's tokens, scaled to the data."""
    scaling, state_dim, action_dim = measure_scaling(clips, options.run.seed)
    sizes = options.predictor
    predictor = PredictorConfig(
        grid=encoder.token_grid,
        encoder_dim=encoder.embed_dim,
        embed_dim=sizes.predictor_dim,
        depth=sizes.predictor_depth,
        num_heads=sizes.predictor_heads,
        num_frames=16,
        state_dim=state_dim,
        action_dim=action_dim,
        rope="interleaved",
        residual=True,
        embed_init_std=0.3,
    )
    action = ActionSpec(action_dim=action_dim, gripper=gripper, period_s=1 / options.clips.fps)
    dynamics = LatentDynamics(DynamicsConfig(predictor=predictor, action=action, scaling=scaling))
    for name, parameter in dynamics.named_parameters():
        if "extrinsics" in name:  # unused: keep it out of DDP and the optimiser
            parameter.requires_grad_(False)
    return dynamics


class JointTask(PredictorTask):
    """Trains a predictor on in-memory clips, with a new, frozen or fine-tuned encoder."""

    options: SmallOptions

    def __init__(
        self,
        options: SmallOptions,
        sources: Sources,
        encoder: FrameEncoder | None = None,
        gripper: Gripper = "command",
    ) -> None:
        """Prepare a run.

        Args:
            options: options of the mode.
            sources: clips with frames at the encoder's image size.
            encoder: pretrained encoder; None in `mode=joint`.
            gripper: gripper convention of the actions.
        """
        super().__init__(options, sources)
        self.start, self.gripper = encoder, gripper

    @classmethod
    def open(cls, options: SmallOptions, ranks: Ranks) -> JointTask:
        """Open the encoder and the clips selected by the options.

        Raises:
            ConfigError: the object loss is set on data without object positions, or the image size
                differs from the encoder's.
            DataError: there are no usable episodes.
        """
        encoder = None
        if isinstance(options, JointOptions):
            image_size = options.encoder.image_size
        else:
            encoder = open_encoder(options.start, options.run.seed)
            image_size = encoder.image_size[0]
        clips, unseen = open_memory(options.run, options.clips, image_size, ranks)
        terms = getattr(options, "regularizers", None)
        if terms and terms.object and not (clips.labelled and unseen.labelled):
            raise ConfigError(
                f"object={terms.object} learns from a simulator's object positions, and not every "
                "episode has them: set object=0, or use episodes of `worldmodel collect`"
            )
        gripper: Gripper = "command" if clips.sent else "difference"
        return cls(options, Sources(clips, unseen), encoder, gripper)

    def build(self, device: torch.device) -> nn.Module:
        """Build encoder, predictor and heads, initialising the encoder first."""
        options, self.device = self.options, device
        encoder = self.start
        if isinstance(options, JointOptions):
            encoder = small_encoder(options)
        assert encoder is not None
        encoder.requires_grad_(not isinstance(options, FrozenOptions))
        dynamics = small_dynamics(options, encoder, self.sources.train, self.gripper)
        terms = None if isinstance(options, FrozenOptions) else options.regularizers
        config = ObjectiveConfig(
            rollout=options.objective, regularizers=terms, augmentation=options.augmentation
        )
        self.objective = Objective(dynamics, config, encoder).to(device)
        encoder.set_observation(self.observation(encoder, "flange"))
        chosen = choose_clips(
            self.sources.held_out, options.loop.val_clips, options.run.seed
        )  # random order, so that the next clip is from another episode
        self.held_out = self._tensors(self.sources.held_out.batch(chosen))
        return self.objective

    def _tensors(self, batch: dict[str, np.ndarray]) -> Batch:
        return {name: torch.from_numpy(value).to(self.device) for name, value in batch.items()}

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

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a warm-up, constant and cosine decay."""
        options = self.options
        return warmup_flat_cosine(step, peak=options.optimizer.lr, total=options.loop.steps)

    def load(self, step: int, chosen: np.ndarray, part: slice) -> Batch:
        """Read clips from memory."""
        return self._tensors(self.sources.train.batch(chosen[part]))

    @torch.no_grad()
    def validate(self) -> Row:
        """Measure the losses of predictions, copies and shuffled actions, and errors in metres."""
        objective, batch = self.objective, self.held_out
        objective.eval()
        dynamics = objective.dynamics
        z_BTND = objective.encode(batch["frames"])
        states_BTS, actions_BTA = batch["states"][:, :-1], batch["actions"]
        out_BTND = dynamics.predict(z_BTND[:, :-1], actions_BTA, states_BTS)
        wrong_BTND = dynamics.predict(z_BTND[:, :-1], actions_BTA.roll(1, 0), states_BTS)
        target = z_BTND[:, 1:]
        row = {
            "val_true": float((out_BTND - target).abs().mean()),
            "val_copy": float((z_BTND[:, :-1] - target).abs().mean()),
            "val_shuffled": float((wrong_BTND - target).abs().mean()),
        }
        if objective.object_head is not None:
            errors = objective.object_errors(z_BTND, out_BTND, batch["objects"])
            row |= {name: float(value) for name, value in errors.items()}
        row |= self.action_error(z_BTND, batch["states"], actions_BTA)
        objective.train()
        return row

    def export(self, path: Path, weights: dict[str, Tensor]) -> dict[str, object]:
        """Write the world model in half precision."""
        assert self.objective.encoder is not None
        with torch.random.fork_rng(devices=[]):
            encoder = build_frame_encoder(self.objective.encoder.config)
        encoder.load_state_dict(part_of(weights, "encoder"))
        world = WorldModel(encoder, self.trained(weights))
        label = "yes" if self.objective.object_head is not None else "no"
        save(path, world, notes={"simulator_label": label}, dtype=torch.float16)
        return {
            "parameters": sum(p.numel() for p in world.parameters()),
            "simulator_label": label,
            "model": to_dict(world.config),
        }
