"""Workplaces behind libfranka: a real Franka, and the simulated table that speaks its protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envs.twin.twin import Twin
from planning.apps.workcell import Workcell, WorkcellOptions, open_camera, read_limits
from robot.arm import Arm
from robot.cameras.camera import Camera
from robot.cameras.threaded_camera import ThreadedCamera
from robot.franka.arm import FrankaArm, FrankaConfig, WatchdogConfig
from robot.safety.layer import SafetyConfig

if TYPE_CHECKING:
    from envs.arm_env import SubGoal

SIMULATED = WatchdogConfig(planner_s=1.0, frame_s=1.0, state_s=1.0, kill_s=3.0)
"""The simulated arm's server shares its processor with everything else."""


def watchdog_ages(patience: float) -> WatchdogConfig:
    """The watchdog of a real arm; a simulated one's server shares its processor, and may wait."""
    usual = WatchdogConfig()
    return WatchdogConfig(
        planner_s=usual.planner_s * patience,
        frame_s=usual.frame_s * patience,
        state_s=usual.state_s * patience,
        kill_s=usual.kill_s * patience,
    )


def driver_config(limits: SafetyConfig, address: str, **more: Any) -> FrankaConfig:
    """The driver's part of a workcell's limits; the same for a real arm and the simulated one."""
    return FrankaConfig(
        address=address,
        max_speed_m_s=limits.max_speed_m_s,
        gripper_force_n=limits.gripper_force_n,
        max_torque_nm=limits.max_torque_nm,
        max_force_n=limits.max_force_n,
        contact_n=limits.contact_n,
        slow_below_m=limits.table_z_m + limits.slow_zone_m,
        slow_m_s=limits.slow_m_s,
        **more,
    )


def open_franka(options: WorkcellOptions, limits: SafetyConfig) -> tuple[Arm, Camera]:
    """Connect to the arm under its limits, and to a camera that the watchdog looks after."""
    usual = FrankaConfig()
    config = driver_config(
        limits,
        options.address,
        realtime=options.realtime,
        connect_timeout_s=usual.connect_timeout_s * options.patience,
        motion_timeout_s=usual.motion_timeout_s * options.patience,
    )
    arm = FrankaArm(
        config,
        watchdog_ages(options.patience),
        kind=options.arm,
        joint_margin_rad=limits.joint_margin_rad,
    )
    try:
        camera = watched_camera(open_camera(options.camera, live=True), arm)
    except BaseException:
        arm.close()
        raise
    return arm, camera


def watched_camera(camera: Camera, arm: FrankaArm) -> ThreadedCamera:
    """A camera whose silence or failure stops the arm while it moves."""

    def failed(why: str) -> None:
        if arm.link.moving:
            arm.link.stop(f"camera: {why}")

    return ThreadedCamera(camera, arm.link.saw_frame, on_error=failed)


class TwinWorkcell(Workcell):
    """`ArmEnv`'s scene served as a Franka; driver and watchdog are those of a real arm."""

    simulated = auto_recovers = True
    frozen_s, max_age_s = float("inf"), 3.0

    def __init__(self, options: WorkcellOptions) -> None:
        self.limits = read_limits(options.limits or "twin")
        self.twin = Twin(
            options.task or "reach", split=options.split, objects=tuple(options.objects)
        )
        try:
            config = driver_config(
                self.limits,
                self.twin.address,
                realtime=False,
                connect_timeout_s=15.0,
                motion_timeout_s=15.0,
            )
            self.driver = FrankaArm(config, SIMULATED)
        except BaseException:
            self.twin.close()
            raise
        self.arm = self.driver
        # rendered when asked for, and so unknown to the watchdog: pictures all the time would take
        # from the simulation, which needs most of a processor to keep the arm's own pace
        self.camera: Camera = self.twin.camera
        self._goals: list[SubGoal] = []

    def begin(self, seed: int) -> None:
        """Draw the scene: the arm is let go of, placed and connected again."""
        self.driver.disconnect()
        self._goals = self.twin.reset(seed)
        self.driver.connect()
        if self.driver.link.stopped:  # an episode that ended early; nobody can be hurt here
            self.driver.recover()

    def sub_goals(self, variant: str) -> list[Any]:
        """Goal pictures of the scene by the scripted expert."""
        return self.twin.choose(self._goals, variant)

    def info(self) -> dict[str, Any] | None:
        """What `ArmEnv.step` tells."""
        return self.twin.info(closed=self.driver.closed)

    def close(self) -> None:
        """Let go of the arm, end the server."""
        self.driver.close()
        self.twin.close()
