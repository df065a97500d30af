"""Where an agent works: an arm, its camera, its limits, and in simulation a task and its judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import mujoco
import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

import envs
from planning.errors import DriveError
from robot.arm import Arm, Sent
from robot.cameras.camera import CallableCamera, Camera, CheckedCamera, OpenCVCamera, SequenceCamera
from robot.cameras.realsense import RealSenseCamera
from robot.errors import ConfigError
from robot.fake import FakeArm
from robot.kinematics import Kinematics
from robot.safety.layer import SafeArm, SafetyConfig
from worldmodel.resources import config_folder

Image = NDArray[np.uint8]
ROBOTS = ("franka", "twin", "mujoco", "fake")


def _text(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(kw_only=True)
class WorkcellOptions:
    """Options that all commands with an arm share."""

    robot: str = _text("mujoco", "franka, twin (libfranka's protocol), mujoco or fake")
    task: str = _text("", "simulated: reach, grasp, reach_with_object, pick_place or push")
    seed: int = _text(0, "of the scene and the search; as in `worldmodel eval`")
    split: str = _text("train", "simulated looks: train or held_out")
    objects: list[str] = field(
        default_factory=lambda: ["cube"], metadata={"help": "simulated: cube, box, cup, cylinder"}
    )
    address: str = _text("172.16.0.2", "franka: of the control box")
    arm: str = _text("fr3", "franka: fr3 or panda")
    realtime: bool = _text(True, "franka: false on a kernel without real-time (simulators only)")
    camera: str = _text(
        "", "franka, fake: number, device, video, folder, realsense or realsense:SERIAL"
    )
    limits: str = _text("", "safety limits: franka, twin or a .yaml (empty: as the robot)")
    execute: bool = _text(False, "move the arm; without it every command is a dry run")
    confirm: bool = _text(True, "ask for a typed word before the arm may move")
    confirm_each: bool = _text(False, "ask before every step")
    unattended: bool = _text(False, "franka: allow confirm=false; a person must still watch")
    patience: float = _text(
        1.0, "franka: multiplies the allowed ages and waits; over 1 with realtime=false only"
    )


def read_limits(name: str) -> SafetyConfig:
    """Limits by name (`configs/robot/NAME.yaml`) or from a .yaml file.

    Raises:
        ConfigError: no such file, or a forbidden limit.
    """
    path = Path(name)
    if path.suffix != ".yaml":
        path = config_folder() / "robot" / f"{name}.yaml"
    try:
        values: Any = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(
            f"Limits {name!r} cannot be read ({error}): franka, twin or a file"
        ) from error
    return SafetyConfig.read(values)


class Workcell:
    """An arm and its camera; simulated ones also make scenes, goals and judge."""

    simulated = False
    auto_recovers = False
    """Whether `begin` makes an arm good again after a reflex, which costs the episode, no more."""
    arm: Arm
    camera: Camera
    limits: SafetyConfig
    frozen_s = 0.5
    max_age_s = 0.2
    """Of a frame; simulations wait for the planner, and renderers for a busy processor."""

    def begin(self, seed: int) -> None:
        """Make the scene of an episode (simulated)."""

    def sub_goals(self, variant: str) -> list[Any]:
        """Goal pictures of the scene by the scripted expert (simulated)."""
        raise DriveError("A real arm has no scripted goals: give goals=FOLDER (`capture-goal`)")

    def info(self) -> dict[str, Any] | None:
        """What the task's judge says; None where there is none."""
        return None

    def checked(self) -> CheckedCamera:
        """The camera behind the checks for stale, frozen and black frames."""
        return CheckedCamera(self.camera, max_age_s=self.max_age_s, frozen_s=self.frozen_s)

    def close(self) -> None:
        """Let go of arm and camera."""
        self.camera.close()
        self.arm.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class MujocoWorkcell(Workcell):
    """`ArmEnv`'s scene, moved through the arm's own interface."""

    simulated = True
    frozen_s, max_age_s = float("inf"), 3.0

    def __init__(self, options: WorkcellOptions) -> None:
        self.env = envs.make(options.task or "reach", split=options.split, objects=options.objects)
        self.limits = read_limits(options.limits or "twin")
        self.arm = self.env.arm
        self.camera: Camera = CallableCamera(self.picture)

    def picture(self) -> Image:
        """The left camera's picture."""
        return self.env.renderer.render(self.env.data, "left")

    def begin(self, seed: int) -> None:
        """Draw the scene; the arm may be another model's after it."""
        self.env.reset(seed=seed)
        self.arm = self.env.arm

    def sub_goals(self, variant: str) -> list[Any]:
        """Goal pictures of the scene by the scripted expert."""
        return list(self.env.sub_goals(variant))

    def info(self) -> dict[str, Any] | None:
        """What `ArmEnv.step` tells."""
        return self.env.info()

    def close(self) -> None:
        """Free the renderer."""
        self.arm.close()
        self.env.close()


class FakeWorkcell(MujocoWorkcell):
    """`FakeArm` (no physics), shown at its joint positions in `ArmEnv`'s scene."""

    def __init__(self, options: WorkcellOptions) -> None:
        super().__init__(options)
        self.fake = FakeArm()
        self.arm = self.fake
        if options.camera:
            self.camera = open_camera(options.camera)

    def begin(self, seed: int) -> None:
        """Draw the scene; the fake arm takes the simulated one's workcell."""
        self.env.reset(seed=seed)
        self.fake.q = self.env.data.qpos[:7].copy()
        self.fake.closed = False
        self.arm = self.fake

    def _sync(self) -> None:
        self.env.data.qpos[:7] = self.fake.q
        mujoco.mj_forward(self.env.model, self.env.data)

    def picture(self) -> Image:
        """The left camera's picture of the fake arm."""
        self._sync()
        return super().picture()

    def info(self) -> dict[str, Any] | None:
        """What `ArmEnv.step` would tell."""
        self._sync()
        return super().info()


class FrankaWorkcell(Workcell):
    """A real arm, or whatever speaks libfranka's protocol at the address."""

    def __init__(self, options: WorkcellOptions) -> None:
        from planning.apps.franka_workcell import open_franka

        if not options.camera:
            raise ConfigError("robot=franka needs camera=: 0, realsense, realsense:SERIAL, a URL")
        if options.patience < 1 or (options.realtime and options.patience > 1):
            raise ConfigError(
                f"patience={options.patience}; allowed: 1, or more with realtime=false for a "
                "simulated arm on a busy machine"
            )
        self.max_age_s = Workcell.max_age_s * options.patience
        self.frozen_s = Workcell.frozen_s * options.patience
        self.limits = read_limits(options.limits or "franka")
        self.arm, self.camera = open_franka(options, self.limits)


def open_camera(source: str, *, live: bool = False) -> Camera:
    """Camera of `camera=`: number or device, realsense[:SERIAL], folder or video file.

    Args:
        source: the option.
        live: recorded pictures keep their pace, as a camera does.
    """
    if source.split(":")[0] == "realsense":
        return RealSenseCamera(source.partition(":")[2])
    if source.isdigit():
        return OpenCVCamera(int(source))
    path = Path(source)
    if path.is_dir() or path.is_file():
        return SequenceCamera(path, live=live)
    return OpenCVCamera(source)


def _twin(options: WorkcellOptions) -> Workcell:
    from planning.apps.franka_workcell import TwinWorkcell

    return TwinWorkcell(options)


def open_workcell(options: WorkcellOptions) -> Workcell:
    """Connect to what `robot=` names.

    Raises:
        ConfigError: unknown robot.
    """
    kinds: dict[str, Callable[[WorkcellOptions], Workcell]] = {
        "mujoco": MujocoWorkcell,
        "fake": FakeWorkcell,
        "franka": FrankaWorkcell,
        "twin": _twin,
    }
    if options.robot not in kinds:
        raise ConfigError(f"robot={options.robot!r}; known: {', '.join(ROBOTS)}")
    if (
        options.execute
        and options.robot == "franka"
        and not (options.confirm or options.unattended)
    ):
        raise DriveError(
            "confirm=false moves a real arm without a person's word: leave it out, or add "
            "unattended=true and stand by with the emergency stop"
        )
    return kinds[options.robot](options)


def ask(question: str) -> str:
    """A person's answer; empty at the end of input."""
    try:
        return input(question).strip()
    except EOFError:
        return ""


WORD = "move"


def require_motion_confirmation(options: WorkcellOptions, workcell: Workcell, what: str) -> None:
    """Get a person's typed word before the arm moves; nothing to do in a dry run.

    Raises:
        DriveError: another word was typed.
    """
    if not options.execute:
        print("dry run: nothing will move; execute=true moves the arm")
        return
    if not options.confirm:
        return
    c = workcell.limits
    print(
        f"{what} will MOVE the arm ({options.robot}).\n"
        f"flange box {c.flange_low_m} to {c.flange_high_m} m, step at most {c.step_m} m, "
        f"table at {c.table_z_m} m. Hand on the emergency stop; people and things out of the box."
    )
    if ask(f"Type {WORD} to go on: ") != WORD:
        raise DriveError(f"Not confirmed: nothing has moved. Type {WORD} when it is safe")


def is_attended(options: WorkcellOptions) -> bool:
    """Whether a person stands by a real arm that may move."""
    return options.robot == "franka" and options.execute and options.confirm


AGAIN = "recover"


def require_recovery_confirmation(options: WorkcellOptions, workcell: Workcell) -> None:
    """Where a real arm is stopped, show why and recover it on a person's typed word.

    Raises:
        DriveError: nobody is asked (a dry run, or confirm=false), another word was typed, or the
            arm reports an error still.
    """
    errors = "; ".join(workcell.arm.state().errors)
    if workcell.simulated or not errors:
        return
    if not is_attended(options):
        raise DriveError(
            f"The arm is stopped ({errors}). Look at it and take the cause away; then drive with "
            f"execute=true and without confirm=false, and type {AGAIN}"
        )
    print(f"The arm is stopped: {errors}\nLook at it and take the cause away.")
    if ask(f"Type {AGAIN} to clear the stop: ") != AGAIN:
        raise DriveError(f"Not recovered: the arm stays stopped ({errors})")
    workcell.arm.recover()
    left = "; ".join(workcell.arm.state().errors)
    if left:
        raise DriveError(f"The arm did not recover ({left}): look at it, then at Desk")


def confirm_step(sent: Sent) -> bool:
    """Ask about one step."""
    action = np.round(sent.action, 3).tolist()
    return ask(f"send {action} {sent.reason_text}? [y/N] ").lower() in ("y", "yes")


def safe_arm(options: WorkcellOptions, workcell: Workcell, log: IO[str] | None = None) -> SafeArm:
    """The workcell's arm behind its safety layer, taken as it stands."""
    kind = options.arm if options.robot == "franka" else "fr3"
    return SafeArm(
        workcell.arm,
        workcell.limits,
        solver=Kinematics(kind, workcell.limits.joint_margin_rad),
        execute=options.execute,
        confirm=confirm_step if options.confirm_each else None,
        log=log,
    )


def shared_options(options: WorkcellOptions) -> dict[str, Any]:
    """The options as plain values, for a log."""
    return dataclasses.asdict(options)
