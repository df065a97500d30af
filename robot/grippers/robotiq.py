"""Robotiq 2F-85 over Modbus RTU on a serial line. Requires the extra `robotiq`.

Source of the registers: Robotiq 2F-85 and 2F-140 instruction manual, sec. Control. Tested against a
simulated device on a pseudo-terminal; no gripper was available.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from robot.errors import GripperError

SLAVE, BAUD = 9, 115_200
COMMAND, STATUS, WORDS = 0x03E8, 0x07D0, 3
"""First registers of commands and of the status, and the number of each."""
ACTIVATE, GO_TO = 0x01, 0x08
"""Bits of an action request."""
ACTIVATED = 3
"""gSTA of an activated gripper."""
OPEN_M, CLOSED_AT = 0.085, 230
"""Distance between the open fingers [m], and the position of closed ones (0 is open)."""
SPEEDS_M_S, FORCES_N = (0.020, 0.150), (20.0, 235.0)
"""Speeds and forces of the bytes 0 and 255."""
ANSWER_S, TRIES = 0.1, 3
"""Time limit of a reply [s], and number of attempts."""
ACTIVATION_S = 10.0
"""Time limit of the activation, in which the fingers open and close once [s]."""
LOST = "Check its cable, its power and the port, then recover"


@dataclass(frozen=True)
class Status:
    """What the gripper reports."""

    activated: bool
    """Whether it can move."""
    moving: bool
    """Whether the fingers move to the requested position."""
    fault: int
    """Code of a fault, 0 for none; 0x08 and above need a person."""
    requested: int
    """Position that the gripper has understood as its goal."""
    position: int
    """Position of the fingers, 0 open to 255 closed."""


class RobotiqGripper:
    """A Robotiq 2F-85; see `robot.grippers.gripper.Gripper`.

    Args:
        port: Serial device, for instance /dev/ttyUSB0.

    Raises:
        GripperError: The library is missing, the port cannot be opened, or the gripper does not
            answer or cannot be activated.
    """

    def __init__(self, port: str = "/dev/ttyUSB0") -> None:
        try:
            import minimalmodbus
            import serial
        except ImportError as error:
            raise GripperError(
                f"Robotiq's gripper needs minimalmodbus ({error}): "
                "pip install 'worldmodel[robotiq]'"
            ) from error
        self.port = port
        try:
            self.line = serial.Serial(port, BAUD, timeout=ANSWER_S, write_timeout=ANSWER_S)
        except (OSError, ValueError) as error:
            raise GripperError(
                f"The gripper's port {port} cannot be opened ({error}). Give gripper_port=, and "
                "allow this user to use it (group dialout)"
            ) from error
        self.goal = 0
        self.device: Any = minimalmodbus.Instrument(self.line, SLAVE)
        try:
            self._activate()
        except BaseException:
            self.close()
            raise

    def _ask(self, what: str, function: str, *arguments: Any) -> Any:
        """Call a function of the Modbus device, again if the answer is lost.

        Raises:
            GripperError: No answer came; the message says what to check.
        """
        for attempt in range(TRIES):
            try:
                return getattr(self.device, function)(*arguments)
            except (OSError, ValueError) as error:  # minimalmodbus's own errors are OSErrors
                if attempt + 1 == TRIES:
                    raise GripperError(
                        f"The Robotiq gripper at {self.port} is lost: cannot {what} "
                        f"({type(error).__name__}: {error}). {LOST}"
                    ) from error
        raise AssertionError

    def status(self) -> Status:
        """Read the gripper's status.

        Raises:
            GripperError: It does not answer.
        """
        words = self._ask("read its status", "read_registers", STATUS, WORDS)
        state = words[0] >> 8
        return Status(
            activated=state >> 4 & 0b11 == ACTIVATED,
            moving=bool(state & GO_TO) and state >> 6 == 0,
            fault=words[1] >> 8 & 0x0F,
            requested=words[1] & 0xFF,
            position=words[2] >> 8,
        )

    def _send(self, action: int, position: int = 0, speed: int = 0, force: int = 0) -> None:
        words = [action << 8, position, speed << 8 | force]
        self._ask("send a command", "write_registers", COMMAND, words)

    def _activate(self) -> None:
        """Activate a gripper that is not; its fingers then open and close once.

        Raises:
            GripperError: It does not become active in time.
        """
        if self.status().activated:
            return
        self._send(0)
        self._send(ACTIVATE)
        until = time.monotonic() + ACTIVATION_S
        while not self.status().activated:
            if time.monotonic() > until:
                raise GripperError(
                    f"The Robotiq gripper at {self.port} was not active after {ACTIVATION_S:g} s: "
                    "take objects out of its fingers, and switch its power off and on"
                )
            time.sleep(0.05)

    def width_m(self) -> float:
        """Return the distance between the fingers [m].

        Raises:
            GripperError: It does not answer.
        """
        return OPEN_M * max(0.0, 1 - self.status().position / CLOSED_AT)

    def start(self, width_m: float, *, speed_m_s: float, force_n: float) -> None:
        """Begin to move the fingers to a distance [m]; see `Gripper.start`.

        Raises:
            GripperError: It does not answer, or reports a fault.
        """
        share = 1 - min(max(width_m / OPEN_M, 0.0), 1.0)
        self.goal = 255 if share == 1 else round(share * CLOSED_AT)
        speed, force = _byte(speed_m_s, SPEEDS_M_S), _byte(force_n, FORCES_N)
        self._send(ACTIVATE | GO_TO, self.goal, speed, force)

    def is_done(self) -> bool:
        """Return whether the fingers have arrived or hold an object.

        Raises:
            GripperError: It does not answer, or reports a fault.
        """
        found = self.status()
        if found.fault >= 0x08 or not found.activated:
            raise GripperError(
                f"The Robotiq gripper at {self.port} reports fault 0x{found.fault:02X}: inspect "
                "it, then recover"
            )
        return found.requested == self.goal and not found.moving

    def close(self) -> None:
        """Release the serial line."""
        self.line.close()


def _byte(value: float, limits: tuple[float, float]) -> int:
    """Return a value within its limits as 0 to 255."""
    low, high = limits
    return round(255 * (min(max(value, low), high) - low) / (high - low))
