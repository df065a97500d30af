"""The protocol server of the simulated arm, with the collision reflex of a real one.

franky-sim acknowledges collision thresholds but does not apply them. Here the contact forces that
`Touch` estimates are compared with them: if they exceed the thresholds while the arm moves, the
motion is aborted, as on a real arm, until an error recovery.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from envs.twin.franky_internals import (
    AutomaticErrorRecoveryCommand,
    AutomaticErrorRecoveryStatus,
    BaseCommand,
    FrankaRobotState,
    MoveCommand,
    MoveStatus,
    OpenRobotServer,
    OpenServer,
    RobotCommand,
    RobotMode,
    SetCollisionBehaviorCommand,
    UDPCommand,
)
from envs.twin.touch import Array, Touch

JOINT_REFLEX, CARTESIAN_REFLEX, SILENCE, ERRORS = 6, 7, 31, 41
"""Indices into libfranka's error list, and its length; `SILENCE` is libfranka's communication
constraints violation."""
REST_RAD_S, REST_MS = 0.01, 50
"""The arm is at rest once all joints have been slower than this [rad/s] for this long [ms]."""
REJECTED = 1
"""Status of a setter rejected in the arm's current mode."""


@dataclass
class Thresholds:
    """Collision thresholds; infinite until a client sets them."""

    torques_nm: Array = field(default_factory=lambda: np.full(7, np.inf))
    wrench: Array = field(default_factory=lambda: np.full(6, np.inf))
    """Force along [N] and torque about [Nm] the base frame's axes."""


class ArmServer(OpenRobotServer):
    """franky-sim's protocol server with collision thresholds, reflex and recovery.

    The upper thresholds of nominal motion also apply during acceleration.
    """

    def __init__(self, robot: Any, hostname_candidates: Iterable[str]) -> None:
        self.recovery: Recovery | None = None
        """Recovery command whose client waits for an answer."""
        super().__init__(robot, hostname_candidates)
        self.thresholds = Thresholds()
        self.touch: Touch | None = None
        """Set when the physics start."""
        self.reasons: tuple[int, ...] = ()
        """Errors since a reflex, as indices into libfranka's list."""
        self.rested_ms = 0
        self.stopped_q: tuple[float, ...] = ()
        """Joint positions to hold after a reflex."""
        self.replace_commands(
            {
                RobotCommand.kSetCollisionBehavior: CollisionBehavior,
                RobotCommand.kMove: Move,
                RobotCommand.kAutomaticErrorRecovery: Recovery,
            }
        )

    @property
    def robot_state(self) -> FrankaRobotState:
        """Robot state with contact estimates and errors."""
        state = super().robot_state
        if self.touch is None:
            return state
        # libfranka's sign: forces of the arm on the environment are positive
        torques, wrench = -self.touch.torques, -self.touch.wrench
        axes = np.reshape(state.O_T_EE, (4, 4), order="F")[:3, :3]
        errors = tuple(i in self.reasons for i in range(ERRORS))
        felt = state.replace(
            tau_ext_hat_filtered=tuple(torques),
            K_F_ext_hat_K=(*(wrench[:3] @ axes), *(wrench[3:] @ axes)),
            O_F_ext_hat_K=tuple(wrench),
            joint_collision=tuple(map(float, ~(np.abs(torques) <= self.thresholds.torques_nm))),
            cartesian_collision=tuple(map(float, ~(np.abs(wrench) <= self.thresholds.wrench))),
            errors=errors,
            reflex_reason=errors,
        )
        return felt.replace(robot_mode=RobotMode.kReflex) if self.reasons else felt

    def look(self) -> None:
        """Abort the current motion if an estimate exceeds its threshold."""
        self._recover()
        if self.current_motion_id and self._collisions():
            self.abort(*self._collisions())

    def _collisions(self) -> tuple[int, ...]:
        if self.touch is None:
            return ()
        joints = not bool((np.abs(self.touch.torques) <= self.thresholds.torques_nm).all())
        hand = not bool((np.abs(self.touch.wrench) <= self.thresholds.wrench).all())
        return (JOINT_REFLEX,) * joints + (CARTESIAN_REFLEX,) * hand

    def recover(self, command: Recovery) -> None:
        """Clear the errors once the arm is at rest with contacts below the thresholds."""
        self.recovery, self.rested_ms = command, 0

    def _stay(self) -> None:
        self.rested_ms = 0
        self.stopped_q = tuple(self.robot.inner_state.q)
        self.hold(self.stopped_q)
        self.robot.follower.begin(self.stopped_q)

    def _recover(self) -> None:
        moves = not np.abs(self.robot.inner_state.dq).max() <= REST_RAD_S
        self.rested_ms = 0 if moves else self.rested_ms + 1
        if self.recovery is None or self.rested_ms < REST_MS:
            return
        if self._collisions():
            self._stay()  # yields: hold the position that the contact has pushed the arm to
            return
        self.reasons = ()
        self.recovery.reply(AutomaticErrorRecoveryStatus.kSuccess)
        self.recovery = None

    def start_motion(
        self, controller_mode: Any, motion_generator_mode: Any, motion_id: int
    ) -> None:
        """Begin a motion from the commanded pose, not from where a contact holds the arm."""
        super().start_motion(controller_mode, motion_generator_mode, motion_id)
        state = self.robot_state
        self.set_command(UDPCommand(O_T_EE_c=tuple(state.O_T_EE_d), q_c=tuple(state.q_d)))

    def stop_motion(self, send_preemption_signal: bool = True) -> None:
        """Hold the commanded joints or, after a reflex, the joints at that time."""
        super().stop_motion(send_preemption_signal)
        if self.reasons:
            self.hold(self.stopped_q)

    def abort(self, *reasons: int) -> None:
        """Abort the current motion with a reflex.

        Args:
            *reasons: Indices into libfranka's error list.
        """
        motion = self.current_motion_id
        if not motion:
            return
        self.reasons = reasons
        self._stay()
        self.stop_motion(send_preemption_signal=False)
        self.send_state()  # a client asks for the reason when notified of the end
        BaseCommand.send_response(
            self.sockets[1], RobotCommand.kMove, motion, MoveStatus.kReflexAborted
        )
        self.reset_current_motion_id()

    def reset_session(self) -> None:
        """Discard the client's session and its pending recovery."""
        super().reset_session()
        self.recovery = None

    def clear(self) -> None:
        """Clear the errors and the contact estimates."""
        self.reasons = ()
        if self.touch is not None:
            self.touch.clear()


class CollisionBehavior(SetCollisionBehaviorCommand):
    """Command that sets the collision thresholds."""

    def handle(self, server: ArmServer) -> None:
        """Apply the upper thresholds; reject the command after a reflex."""
        if server.reasons:
            self.reply(REJECTED)
            return
        server.thresholds = Thresholds(
            np.array(self.upper_torque_thresholds_nominal),
            np.array(self.upper_force_thresholds_nominal),
        )
        self.reply(0)


class Move(MoveCommand):
    """Command that starts a motion, unless the arm has errors."""

    def handle(self, server: ArmServer) -> None:
        """Start the motion, or reject the command."""
        if server.reasons:
            self.reply(MoveStatus.kCommandNotPossibleRejected)
        else:
            super().handle(server)


class Recovery(AutomaticErrorRecoveryCommand):
    """Command that clears the errors."""

    def handle(self, server: ArmServer) -> None:
        """Clear the errors; after a reflex, answer once the arm is at rest and can move again."""
        if server.reasons:
            server.recover(self)
        else:
            super().handle(server)


class TableServer(OpenServer):
    """Server of one arm with contact estimates."""

    def init(self) -> None:
        """Bind the arm's address and start the physics."""
        arm = ArmServer(self.sim.robots[0], self.free_addresses)
        arm.init()
        self.robot_servers.append(arm)
        self.sim.start()
        arm.touch = Touch(self.sim.model, self.sim.data)

    @property
    def arm(self) -> ArmServer:
        """Server of the only arm."""
        return self.robot_servers[0]

    def run_once(self, realtime: bool | float = False) -> None:
        """Advance by 1 ms: commands, physics, state, reflex."""
        super().run_once(realtime)
        if self.arm.touch is not None:
            self.arm.touch.feel()
            self.arm.look()
