"""Places that are reached through libfranka's protocol: a real Franka, and the simulated twin."""

from __future__ import annotations

import contextlib
from typing import Any

from envs.twin import Twin
from planning.cli.workplace import Place, PlaceOptions, open_camera, read_limits
from robot.arm import Arm
from robot.cameras import Camera, CheckedCamera
from robot.errors import ConfigError
from robot.franka import FrankaArm, WatchdogConfig
from robot.franka_driver import FrankaConfig
from robot.grabber import GrabbedCamera
from robot.safety import SafetyConfig

TWIN = {
    "realtime": False, "dynamics": 1.0, "max_torque_nm": 100.0, "max_force_n": 100.0,
    "motion_timeout_s": 10.0, "connect_timeout_s": 20.0,
}  # fmt: skip
"""The simulated arm's torques carry numerical noise that a real arm's thresholds trip on."""
SLOW_WATCHDOG = WatchdogConfig(planner_s=1.0, frame_s=1.0, state_s=1.0, kill_s=2.0)
"""Physics, rendering and planning share this machine's processors with the watchdog."""


def franka_config(address: str, limits: SafetyConfig, **changes: Any) -> FrankaConfig:
    """The driver's part of the limits."""
    said: dict[str, Any] = {
        "address": address, "max_speed_m_s": limits.max_speed_m_s,
        "gripper_force_n": limits.gripper_force_n, "max_torque_nm": limits.max_torque_nm,
        "max_force_n": limits.max_force_n,
    }  # fmt: skip
    return FrankaConfig(**(said | changes))


def open_franka(options: PlaceOptions, limits: SafetyConfig) -> tuple[Arm, Camera]:
    """Connect arm and camera; the watchdog hears of every frame that differs from the last."""
    with contextlib.ExitStack() as stack:
        config = franka_config(options.address, limits, realtime=options.realtime)
        arm = FrankaArm(config, kind=options.arm, joint_margin_rad=limits.joint_margin_rad)
        stack.callback(arm.close)
        device = open_camera(options.camera)
        pause_s = 0.002 if _waits(options.camera) else 1 / 15
        camera = GrabbedCamera(device, arm.link.saw_frame, pause_s=pause_s)
        stack.pop_all()
    return arm, camera


def _waits(source: str) -> bool:
    """Whether a camera's `read` waits for the next frame by itself."""
    return source.isdigit() or source.startswith(("/dev/", "realsense", "rtsp:", "http"))


class TwinPlace(Place):
    """`ArmEnv`'s scenes behind libfranka's protocol, driven by the real driver and watchdog."""

    simulated = True
    frozen_s = float("inf")

    def __init__(self, options: PlaceOptions) -> None:
        if len(options.objects) != 1:
            raise ConfigError(f"robot=twin serves one object, not {list(options.objects)}")
        self.limits = read_limits(options.limits or "twin")
        self.twin = Twin(
            options.task or "reach", split=options.split, objects=(options.objects[0],)
        )
        try:
            config = franka_config(self.twin.address, self.limits, **TWIN)
            self.franka = FrankaArm(
                config, SLOW_WATCHDOG, joint_margin_rad=self.limits.joint_margin_rad
            )
        except BaseException:
            self.twin.close()
            raise
        self.arm: Arm = self.franka
        self.camera: Camera = self.twin.camera
        self.goals: list[Any] = []

    def begin(self, seed: int) -> None:
        """Let go of the arm, place it and the object, connect again."""
        self.franka.disconnect()
        self.goals = list(self.twin.reset(seed))
        self.franka.connect()
        if self.franka.link.stopped:
            self.franka.recover()  # nobody can be hurt

    def sub_goals(self, variant: str) -> list[Any]:
        """The same pictures as `ArmEnv`'s with this seed."""
        if variant == "three":
            return [goal for goal in self.goals if goal.name != "lifted"]
        return self.goals[-1:] if variant == "one" else self.goals

    def info(self) -> dict[str, Any] | None:
        """What `ArmEnv.step` tells, from the served physics."""
        return self.twin.info(closed=self.franka.closed)

    def checked(self) -> CheckedCamera:
        """Checked; the picture is rendered when asked for, which takes a busy machine a while."""
        return CheckedCamera(self.camera, frozen_s=self.frozen_s, max_age_s=2.0)

    def close(self) -> None:
        """End the driver, the watchdog and the server."""
        self.franka.close()
        self.twin.close()
