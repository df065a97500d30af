"""Workcells driven through libfranka: a real Franka and its simulated twin."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from envs.goals import SubGoal as SceneGoal
from envs.twin.messages import HANG_S
from envs.twin.twin import Twin
from planning.apps.open_camera import open_camera
from planning.apps.workcell import DEFAULT_IMAGE_SIZE, Workcell, read_limits
from planning.errors import DriveError, PlanError
from planning.plugins import load
from planning.protocols import SubGoal
from planning.workcell_options import FrankaOptions, WorkcellOptions
from robot.arm import Arm
from robot.cameras.camera import Camera
from robot.cameras.threaded_camera import ThreadedCamera
from robot.driven_arm import DrivenArm
from robot.errors import ConfigError
from robot.franka.arm import FrankaArm, FrankaConfig, WatchdogConfig
from robot.grippers.gripper import Gripper
from robot.safety.layer import SafetyConfig

SIMULATED = WatchdogConfig(planner_s=10.0, frame_s=10.0, state_s=HANG_S, kill_s=HANG_S)
"""Maximum ages for the twin. Its time waits for its driver, so the ages of heartbeats count in its
own time; the host's time only tells a process that hangs from a slow one."""


def watchdog_ages(patience: float, hang_s: float | None = None) -> WatchdogConfig:
    """Return the watchdog's maximum ages, multiplied by `patience` for a simulated arm.

    Args:
        patience: Factor of a busy machine.
        hang_s: For a simulated arm whose time waits, the time without a reading that tells a
            process that hangs from a slow one [s]; the other ages count in the arm's own time.
    """
    usual = WatchdogConfig()
    return WatchdogConfig(
        planner_s=usual.planner_s * patience,
        frame_s=usual.frame_s * patience,
        state_s=usual.state_s * patience if hang_s is None else hang_s,
        kill_s=usual.kill_s * patience if hang_s is None else hang_s,
    )


def driver_config(limits: SafetyConfig, address: str, **more: Any) -> FrankaConfig:
    """Return the driver options for a workcell's limits, equal for real and simulated arms."""
    return FrankaConfig(
        address=address,
        max_speed_m_s=limits.max_speed_m_s,
        max_turn_rad_s=limits.max_turn_rad_s,
        gripper_force_n=limits.gripper_force_n,
        max_torque_nm=limits.max_torque_nm,
        max_force_n=limits.max_force_n,
        contact_n=limits.contact_n,
        slow_below_m=limits.table_z_m + limits.slow_zone_m,
        slow_m_s=limits.slow_m_s,
        **more,
    )


def gripper_maker(options: FrankaOptions) -> Callable[[], Gripper] | None:
    """Return what connects to the gripper in the driver process; None for the Franka hand.

    Raises:
        PlanError: A user's class cannot be loaded.
    """
    if options.gripper == "franka":
        return None
    make = load("gripper", options.gripper)
    if not callable(make):
        raise PlanError(f"gripper={options.gripper} is not a class or function. Name one of them.")
    return partial(make, options.gripper_port) if options.gripper == "robotiq" else make


def open_franka(options: WorkcellOptions, limits: SafetyConfig) -> tuple[Arm, Camera]:
    """Connect to the arm and to a camera monitored by the watchdog."""
    usual = FrankaConfig()
    config = driver_config(
        limits,
        options.franka.address,
        realtime=options.franka.realtime,
        make_gripper=gripper_maker(options.franka),
        clock="host" if options.franka.realtime else "arm",
        connect_timeout_s=usual.connect_timeout_s * options.franka.patience,
        motion_timeout_s=usual.motion_timeout_s * options.franka.patience,
    )
    arm = FrankaArm(
        config,
        watchdog_ages(
            options.franka.patience, config.connect_timeout_s if config.clock == "arm" else None
        ),
        kind=options.franka.arm,
        joint_margin_rad=limits.joint_margin_rad,
    )
    try:
        patience = options.franka.patience
        camera = watched_camera(open_camera(options.camera, live=True, patience=patience), arm)
    except BaseException:
        arm.close()
        raise
    return arm, camera


def watched_camera(camera: Camera, arm: DrivenArm) -> ThreadedCamera:
    """Wrap a camera so that its silence or failure stops a moving arm."""

    def failed(why: str) -> None:
        if arm.link.moving:
            arm.link.stop(f"camera: {why}")

    return ThreadedCamera(camera, arm.link.saw_frame, on_error=failed)


def watched_view(camera: Camera, arm: Arm, name: str) -> ThreadedCamera:
    """Wrap the camera of another view, so that its failure stops a moving arm.

    Its silence is noticed at the next step, by the age of its newest frame.
    """

    def failed(why: str) -> None:
        interrupt_motion(arm, f"camera {name}: {why}")

    return ThreadedCamera(camera, on_error=failed)


def interrupt_motion(arm: Arm, why: str) -> None:
    """Stop a driven arm's motion in progress; an arm at rest needs no recovery."""
    if isinstance(arm, DrivenArm) and arm.link.moving:
        arm.link.stop(why)


class FrankaWorkcell(Workcell):
    """A real arm, or any server that speaks libfranka's protocol at the address.

    Raises:
        ConfigError: There is no camera, or a limit is out of range.
        ArmError: The connection failed or timed out; the message says what to check.
    """

    def __init__(self, options: WorkcellOptions) -> None:
        if not options.camera:
            raise ConfigError(
                "robot=franka needs a camera. Give camera=: 0, realsense[:SERIAL] or a URL."
            )
        self.max_age_s = Workcell.max_age_s * options.franka.patience
        self.frozen_s = Workcell.frozen_s * options.franka.patience
        self.limits = read_limits(options.limits or "franka")
        self.arm, self.camera = open_franka(options, self.limits)

    def open_view(self, name: str, source: str) -> Camera:
        """Open the camera of another view, whose failure stops a moving arm."""
        return watched_view(super().open_view(name, source), self.arm, name)

    def interrupt(self, why: str) -> None:
        """Stop a motion in progress, from any thread."""
        interrupt_motion(self.arm, why)


class TwinWorkcell(Workcell):
    """The `ArmEnv` scene served as a Franka, with the driver and watchdog of a real arm."""

    simulated = auto_recovers = True
    frozen_s = max_age_s = float("inf")  # an image is rendered when it is asked for
    camera_name = "left"

    def __init__(self, options: WorkcellOptions, image_size: int = DEFAULT_IMAGE_SIZE) -> None:
        self.limits = read_limits(options.limits or "twin")
        scene = options.scene
        self.twin = Twin(
            scene.task or "reach",
            split=scene.split,
            objects=tuple(scene.objects),
            image_size=image_size,
            client_s=HANG_S,
        )
        try:
            config = driver_config(
                self.limits,
                self.twin.address,
                realtime=False,
                connect_timeout_s=HANG_S,
                motion_timeout_s=30.0,
                clock="arm",
            )
            self.driver = FrankaArm(config, SIMULATED)
        except BaseException:
            self.twin.close()
            raise
        self.arm = self.driver
        # Images are rendered on demand and not reported to the watchdog: continuous rendering
        # would slow the simulation, which needs most of a processor to keep the arm's pace.
        self.camera: Camera = self.twin.camera
        self._goals: list[SceneGoal] = []

    def open_view(self, name: str, source: str) -> Camera:
        """Refuse other views, which the twin's process does not render.

        Raises:
            DriveError: Always.
        """
        raise DriveError(
            f"The model sees the camera {name} too, and robot=twin renders the left one alone. Use "
            "robot=mujoco or robot=fake, or a model of one camera"
        )

    def begin(self, seed: int, variant: str = "default") -> None:
        """Reset the scene: disconnect the arm, place it and reconnect."""
        self.driver.disconnect()
        self._goals = self.twin.reset(seed, variant)
        self.driver.connect()
        if (
            self.driver.link.stopped
        ):  # the last episode ended early; recovering a simulated arm is safe
            self.driver.recover()

    def sub_goals(self) -> list[SubGoal]:
        """Return the episode's goal images, rendered by the scripted expert."""
        return list(self._goals)

    def interrupt(self, why: str) -> None:
        """Stop a motion in progress, from any thread."""
        interrupt_motion(self.driver, why)

    def info(self) -> dict[str, Any] | None:
        """Return what `ArmEnv.info` reports about the task."""
        return self.twin.info(closed=self.driver.closed)

    def close(self) -> None:
        """Disconnect the arm and stop the server."""
        self.driver.close()
        self.twin.close()
