"""An arm and a camera that are ROS 2 topics, for `robot=` and `camera=` of worldmodel's commands.

    source /opt/ros/jazzy/setup.bash && cd examples/ros2_bridge
    worldmodel check-view robot=ros2_bridge:RosArm camera=ros2_bridge:RosCamera out=runs/view

Frames are read from an image topic and the arm's state from pose, joint and gripper topics; poses
are sent to a topic that a Cartesian controller (such as MoveIt Servo's) follows. Safety layer and
watchdog of `worldmodel drive` apply as with any arm.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.arm import ArmSpec, ArmState, Sent
from robot.cameras.camera import Frame
from robot.errors import ArmError, CameraError, ConfigError
from robot.pose import euler_to_matrix, matrix_to_euler, pose_diff

CHANNELS = {"rgb8": (3, False), "bgr8": (3, True), "rgba8": (4, False), "bgra8": (4, True)}
"""Encoding of sensor_msgs/Image -> number of channels, and whether blue comes first."""


@dataclass(frozen=True, kw_only=True)
class Topics:
    """Names of the topics."""

    image: str = "/camera/image_raw"
    """sensor_msgs/Image in RGB or BGR."""
    pose: str = "/worldmodel/flange_pose"
    """geometry_msgs/PoseStamped of the flange in the robot's base frame [m, quaternion]."""
    joints: str = "/joint_states"
    """sensor_msgs/JointState [rad, rad/s]."""
    gripper: str = "/worldmodel/gripper_width"
    """std_msgs/Float32, distance between the fingers [m]."""
    target: str = "/worldmodel/target_pose"
    """geometry_msgs/PoseStamped of the flange that the controller shall reach."""
    target_gripper: str = "/worldmodel/target_closed"
    """std_msgs/Float32, closedness that the gripper shall have, 0 open to 1 closed."""
    stop: str = "/worldmodel/stop"
    """std_msgs/Empty: the controller shall stop the arm."""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """When a motion has ended."""

    position_m: float = 0.003
    """Distance from the target at which it is reached [m]."""
    timeout_s: float = 3.0
    """Time after which a target that is not reached is an error [s]."""
    open_width_m: float = 0.08
    """Distance between the open fingers [m]."""
    silent_s: float = 0.5
    """Time without a state after which the arm is lost [s]."""


TOPICS, MOTION = Topics(), Motion()


def quaternion_to_euler(x: float, y: float, z: float, w: float) -> NDArray[np.float64]:
    """Return extrinsic xyz Euler angles [3, rad] of a quaternion.

    Raises:
        ConfigError: It has no length.
    """
    length = float(np.sqrt(x * x + y * y + z * z + w * w))
    if not length > 1e-9:
        raise ConfigError(f"The quaternion {x, y, z, w} has no length; a rotation has length 1")
    x, y, z, w = x / length, y / length, z / length, w / length
    matrix = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return matrix_to_euler(matrix)


def euler_to_quaternion(angles: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return the quaternion (x, y, z, w) of extrinsic xyz Euler angles [3, rad]."""
    m = euler_to_matrix(angles)
    four = np.array(
        [
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
            1 + m[0, 0] + m[1, 1] + m[2, 2],
        ]
    )
    rows = np.array(
        [
            [four[0], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
            [m[0, 1] + m[1, 0], four[1], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], four[2], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], four[3]],
        ]
    )
    row = rows[int(np.argmax(four))]  # the largest component is the best conditioned
    x, y, z, w = (float(v) for v in row / np.linalg.norm(row))
    return x, y, z, w


def to_rgb(data: bytes, height: int, width: int, step: int, encoding: str) -> NDArray[np.uint8]:
    """Return the pixels of a sensor_msgs/Image as RGB [H, W, 3].

    Raises:
        CameraError: The encoding is unknown, or the data have another size.
    """
    if encoding not in CHANNELS:
        raise CameraError(f"The image has the encoding {encoding!r}; known: {', '.join(CHANNELS)}")
    channels, is_bgr = CHANNELS[encoding]
    if step < width * channels or len(data) != step * height:
        raise CameraError(
            f"The image of {width} x {height} px has {len(data)} bytes in rows of {step}; expected "
            f"rows of at least {width * channels}"
        )
    rows = np.frombuffer(data, np.uint8).reshape(height, step)[:, : width * channels]
    pixels = rows.reshape(height, width, channels)[..., :3]
    return np.ascontiguousarray(pixels[..., ::-1] if is_bgr else pixels)


class _Node:
    """A node that receives messages in a thread of its own."""

    def __init__(self, name: str) -> None:
        try:
            import rclpy
            from rclpy.executors import SingleThreadedExecutor
        except ImportError as error:
            raise ConfigError(
                "rclpy is missing: source ROS 2's setup.bash (humble or newer) in this shell, and "
                "use a Python of the same version"
            ) from error
        self.context = rclpy.context.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Stop receiving."""
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()
        self.thread.join(timeout=2)


class RosCamera:
    """The newest image of a topic."""

    def __init__(self, topics: Topics = TOPICS, timeout_s: float = 2.0) -> None:
        """Subscribe; `timeout_s` is how long `read` waits for an image."""
        self.ros, self.timeout_s, self.topic = _Node("worldmodel_camera"), timeout_s, topics.image
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import Image

        self.arrived = threading.Condition()
        self.newest: tuple[Any, float] | None = None
        self.ros.node.create_subscription(
            Image, topics.image, self._receive, qos_profile_sensor_data
        )

    def _receive(self, message: Any) -> None:
        with self.arrived:
            self.newest = (message, time.monotonic())
            self.arrived.notify_all()

    def read(self) -> Frame:
        """Return the next image that arrives.

        Raises:
            CameraError: None arrives in time, or it cannot be read.
        """
        with self.arrived:
            self.newest = None
            self.arrived.wait_for(lambda: self.newest is not None, self.timeout_s)
            newest = self.newest
        if newest is None:
            raise CameraError(
                f"No image on {self.topic} in {self.timeout_s:g} s: start the camera's node, and "
                f"look with `ros2 topic hz {self.topic}`"
            )
        message, time_s = newest
        size = (message.height, message.width, message.step, message.encoding)
        return Frame(to_rgb(bytes(message.data), *size), time_s)

    def close(self) -> None:
        """Stop receiving."""
        self.ros.close()


class RosArm:
    """An arm behind a Cartesian controller with topics."""

    spec = ArmSpec()  # an action each 0.25 s; poses of the flange; steps of at most 7.5 cm

    def __init__(self, topics: Topics = TOPICS, motion: Motion = MOTION) -> None:
        """Subscribe to the state and advertise the targets."""
        self.ros, self.topics, self.motion = _Node("worldmodel_arm"), topics, motion
        from geometry_msgs.msg import PoseStamped
        from sensor_msgs.msg import JointState
        from std_msgs.msg import Empty, Float32

        self.types = {"pose": PoseStamped, "number": Float32, "empty": Empty}
        self.seen: dict[str, tuple[Any, float]] = {}
        self.halt = threading.Event()
        node = self.ros.node
        for name, kind, topic in (
            ("pose", PoseStamped, topics.pose),
            ("joints", JointState, topics.joints),
            ("gripper", Float32, topics.gripper),
        ):
            node.create_subscription(
                kind, topic, lambda message, name=name: self._receive(name, message), 10
            )
        self.target = node.create_publisher(PoseStamped, topics.target, 1)
        self.target_gripper = node.create_publisher(Float32, topics.target_gripper, 1)
        self.stopping = node.create_publisher(Empty, topics.stop, 1)

    def _receive(self, name: str, message: Any) -> None:
        self.seen[name] = (message, time.monotonic())

    def _newest(self, name: str, topic: str) -> Any:
        """Return a message that is not too old.

        Raises:
            ArmError: There is none.
        """
        limit_s, began = self.motion.silent_s, time.monotonic()
        while time.monotonic() - began < limit_s:
            found = self.seen.get(name)
            if found is not None and time.monotonic() - found[1] < limit_s:
                return found[0]
            time.sleep(0.005)
        raise ArmError(f"No message on {topic} for {limit_s:g} s: start the arm's driver")

    def state(self) -> ArmState:
        """Return the newest pose, joints and gripper width.

        Raises:
            ArmError: A topic is silent.
        """
        stamped = self._newest("pose", self.topics.pose)
        joints = self._newest("joints", self.topics.joints)
        width_m = float(self._newest("gripper", self.topics.gripper).data)
        at, turn = stamped.pose.position, stamped.pose.orientation
        angles = quaternion_to_euler(turn.x, turn.y, turn.z, turn.w)
        closed = float(np.clip(1 - width_m / self.motion.open_width_m, 0, 1))
        stamp, still = stamped.header.stamp, np.zeros(len(joints.position))
        return ArmState(
            time_s=stamp.sec + 1e-9 * stamp.nanosec,
            state=np.array([at.x, at.y, at.z, *angles, closed]),
            q=np.array(joints.position),
            dq=np.array(joints.velocity) if len(joints.velocity) else still,
            gripper_width_m=width_m,
        )

    def send_pose(self, target: NDArray[np.float64]) -> Sent:
        """Publish a target and wait until the flange is there, or a stop.

        Raises:
            ArmError: The target is not reached in time, or the state is silent.
        """
        action = pose_diff(self.state().state, target)
        self.halt.clear()
        message = self.types["pose"]()
        message.header.stamp = self.ros.node.get_clock().now().to_msg()
        message.header.frame_id = "base"
        at, turn = message.pose.position, message.pose.orientation
        at.x, at.y, at.z = (float(v) for v in target[:3])
        turn.x, turn.y, turn.z, turn.w = euler_to_quaternion(np.asarray(target[3:6]))
        self.target.publish(message)
        self.target_gripper.publish(self.types["number"](data=float(target[6])))
        began = time.monotonic()
        while not self.halt.is_set():
            apart_m = float(np.linalg.norm(self.state().state[:3] - target[:3]))
            if apart_m < self.motion.position_m:
                break
            if time.monotonic() - began > self.motion.timeout_s:
                self.stop()
                raise ArmError(
                    f"The target is {100 * apart_m:.1f} cm away after {self.motion.timeout_s:g} s: "
                    f"does a controller follow {self.topics.target}?"
                )
            time.sleep(0.01)
        return Sent(action=action, target=np.asarray(target, dtype=np.float64))

    def stop(self) -> None:
        """Stop the arm: end the wait, and tell the controller."""
        self.halt.set()
        self.stopping.publish(self.types["empty"]())

    def recover(self) -> None:
        """Accept targets again after a stop."""
        self.halt.clear()

    def close(self) -> None:
        """Stop the arm and disconnect."""
        self.stop()
        self.ros.close()
