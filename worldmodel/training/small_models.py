"""Build small world models, or continue from a trained one.

Shapes: B clips, T frames, F frames of a sample, S state, A action.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldmodel.checkpoints.container import read_description
from worldmodel.checkpoints.io import Model
from worldmodel.checkpoints.loading import embedded_path
from worldmodel.constants import POSE_DIM
from worldmodel.data.clip_source import ClipSource
from worldmodel.errors import ConfigError, DataError
from worldmodel.models.config import EncoderConfig, ObjectHeadConfig, PredictorConfig
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.frame_encoder import FrameEncoder, VideoEncoder
from worldmodel.models.model_config import DynamicsConfig, FrameEncoderConfig, Scaling
from worldmodel.models.object_head import ObjectHead
from worldmodel.specs import ActionSpec, Gripper, ObservationSpec
from worldmodel.training.clip_options import ContactClipConfig
from worldmodel.training.config import FinetuneOptions, FrozenOptions, JointOptions
from worldmodel.training.network_options import DynamicsSizes
from worldmodel.training.sources import choose_clips
from worldmodel.training.start_models import open_encoder, open_world

SmallOptions = JointOptions | FrozenOptions | FinetuneOptions
SCALE_CLIPS = 2048
"""Number of clips from which state and action scales are estimated."""
STATE_FLOOR_M, ACTION_FLOOR_M = 0.005, 0.001
"""Minimum scales of positions, and of moves in one step [m]."""
CONSTANT = 1e-6
"""Standard deviation below which a component of unknown unit counts as constant."""
POSE_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Start:
    """Trained parts that a run starts from; None for parts that it builds."""

    encoder: FrameEncoder | None = None
    dynamics: LatentDynamics | None = None
    object_head: ObjectHead | None = None
    home_head: ObjectHead | None = None
    simulator_label: bool = False
    """Whether a label from a simulator was used in training these parts."""


def open_start(options: SmallOptions, given: Model | None = None) -> Start:
    """Load the parts that a run starts from, on the CPU.

    Args:
        options: Options of the run.
        given: Model that `encoder=` names; None loads it.

    Raises:
        CheckpointError: The name is unknown, the file is damaged, or it is not what is needed.
        ConfigError: The options contradict the loaded parts.
    """
    if isinstance(options, JointOptions):
        return Start()
    start, seed = options.start, options.run.seed
    label = simulator_label(start.encoder)
    if not start.warm_predictor:
        return Start(encoder=open_encoder(start, seed, given), simulator_label=label)
    world = open_world(start.encoder, given)
    encoder = open_encoder(start, seed, given)  # checks the image size
    _check_sizes(options.predictor, world.config.predictor)
    check_cameras(world.observation_spec.cameras, options.clips)
    world.dynamics.requires_grad_(True)
    return Start(
        encoder=encoder,
        dynamics=world.dynamics.train(),
        object_head=world.object_head,
        home_head=world.home_head,
        simulator_label=label,
    )


def _check_sizes(sizes: DynamicsSizes, found: PredictorConfig) -> None:
    """Check that predictor sizes, if they are set, are those of the loaded predictor."""
    loaded = DynamicsSizes(
        predictor_dim=found.embed_dim,
        predictor_depth=found.depth,
        predictor_heads=found.num_heads,
        conditioning=found.conditioning,
    )
    if sizes not in (DynamicsSizes(), loaded):
        raise ConfigError(
            f"warm_predictor=true continues from a predictor of {loaded}, and the options ask for "
            f"{sizes}: leave the sizes out, or set warm_predictor=false"
        )


def simulator_label(name: str) -> bool:
    """Return whether the file of a model says that a simulator's label was used in training it."""
    paths = (Path(name), Path(name) / "model.safetensors", embedded_path(name or "default"))
    file = next((p for p in paths if p.suffix == ".safetensors" and p.is_file()), None)
    description = read_description(file) if file else None
    return (description or {}).get("notes", {}).get("simulator_label") == "yes"


def check_cameras(cameras: tuple[str, ...], clips: ContactClipConfig) -> None:
    """Check that the clips have the views that a loaded predictor takes.

    Raises:
        ConfigError: Their number differs, or one of several is another camera.
    """
    several = len(cameras) > 1 or len(clips.cameras) > 1
    if several and cameras != clips.cameras:
        raise ConfigError(
            f"The predictor of encoder= sees the cameras {list(cameras)}, and the clips hold "
            f"{list(clips.cameras)}: set views={','.join(cameras)}, or warm_predictor=false for a "
            "new predictor (mode=macro: choose another model)"
        )


def check_conventions(dynamics: LatentDynamics, expected: ActionSpec, state_dim: int) -> None:
    """Check that a loaded dynamics takes the states and actions of the training data.

    Raises:
        ConfigError: Sizes, gripper or period differ; the message names both.
    """
    found = dynamics.action_spec
    have = found.action_dim, found.gripper, found.period_s, dynamics.config.predictor.state_dim
    want = expected.action_dim, expected.gripper, expected.period_s, state_dim
    if have != want:
        raise ConfigError(
            f"The predictor of encoder= takes (action size, gripper, period, state size) {have}, "
            f"and the episodes have {want}: set warm_predictor=false, or use other episodes"
        )


def new_object_head(encoder: FrameEncoder, num_views: int = 1) -> ObjectHead:
    """Build an object head with random weights for an encoder's tokens of several views."""
    rows, columns = encoder.token_grid
    num_tokens = num_views * rows * columns
    config = ObjectHeadConfig(token_dim=encoder.embed_dim, num_tokens=num_tokens)
    return ObjectHead(config)


def measure_scaling(clips: ClipSource, seed: int) -> tuple[Scaling, int, int]:
    """Estimate state offset and scale, and action scale, from a sample of clips.

    A component that is almost constant in the data, such as the height in planar data, gets a floor
    for its scale, and a warning that names it.

    Returns:
        Scaling, state size and action size.

    Raises:
        DataError: States or actions are not finite.
    """
    sample = clips.batch(choose_clips(clips, SCALE_CLIPS, seed))
    states, actions = sample["states"], sample["actions"]
    states_FS = states.reshape(-1, states.shape[-1])
    actions_FA = actions.reshape(-1, actions.shape[-1])
    is_pose = (states_FS.shape[1], actions_FA.shape[1]) == (POSE_DIM, POSE_DIM)
    measure = _pose_scales if is_pose else _plain_scales
    _require_finite("states", states_FS)
    _require_finite("actions", actions_FA)
    offset_S, scale_S, scale_A = measure(states_FS, actions_FA)
    names = POSE_NAMES if is_pose else None
    scaling = Scaling(
        state_offset=tuple(map(float, offset_S)),
        state_scale=_floored("states", scale_S, names, STATE_FLOOR_M if is_pose else 0.0),
        action_scale=_floored("actions", scale_A, names, ACTION_FLOOR_M if is_pose else 0.0),
        wrap_angles=is_pose,
    )
    return scaling, states_FS.shape[1], actions_FA.shape[1]


def _require_finite(kind: str, rows_FC: np.ndarray) -> None:
    columns = np.flatnonzero(~np.isfinite(rows_FC).all(0)).tolist()
    if columns:
        raise DataError(
            f"The {kind} of the training clips hold NaN or infinity in components {columns}: index "
            "the episodes again, and see the rejects"
        )


def _floored(
    kind: str, scale_C: np.ndarray, names: tuple[str, ...] | None, floor: float
) -> tuple[float, ...]:
    """Return scales of at least `floor`; without one, 1 replaces a scale of (almost) 0."""
    low_C = scale_C < max(floor, CONSTANT)
    if low_C.any():
        columns = [names[c] if names else str(c) for c in np.flatnonzero(low_C)]
        log.warning(
            "The %s of the training data are almost constant in: %s. Their scale is set to %g; the "
            "model cannot learn what a change of them does",
            kind,
            ", ".join(columns),
            floor or 1.0,
        )
    return tuple(map(float, np.where(low_C, floor or 1.0, scale_C)))


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
        num_views=len(options.clips.cameras),
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
        conditioning=sizes.conditioning,
        predict_state=options.objective.predict_state > 0,
    )
    action = ActionSpec(action_dim=action_dim, gripper=gripper, period_s=1 / options.clips.fps)
    dynamics = LatentDynamics(DynamicsConfig(predictor=predictor, action=action, scaling=scaling))
    freeze_unused(dynamics, predict_state=True)
    return dynamics


def with_state_output(dynamics: LatentDynamics) -> LatentDynamics:
    """Return the dynamics with a new output for the next state, unless it has one."""
    predictor = dynamics.config.predictor
    if predictor.predict_state:
        return dynamics
    predictor = dataclasses.replace(predictor, predict_state=True)
    found = LatentDynamics(dataclasses.replace(dynamics.config, predictor=predictor))
    found.load_state_dict({**found.state_dict(), **dynamics.state_dict()})
    return found


def freeze_unused(dynamics: LatentDynamics, *, predict_state: bool) -> None:
    """Keep unused weights out of DDP and the optimiser.

    These are the camera pose's, and the state output's unless the loss has a term for it.
    """
    for name, parameter in dynamics.named_parameters():
        if "extrinsics" in name or ("state_proj" in name and not predict_state):
            parameter.requires_grad_(False)
