"""Conversions of examples/ros2_bridge, and its topics where rclpy is installed."""

import importlib.util
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from robot.errors import CameraError, ConfigError
from robot.pose import euler_to_matrix

FILE = Path(__file__).parents[2] / "examples" / "ros2_bridge" / "ros2_bridge.py"


@pytest.fixture(scope="module")
def bridge():
    spec = importlib.util.spec_from_file_location("ros2_bridge", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["ros2_bridge"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["ros2_bridge"]


def test_rotations_survive_as_quaternions(bridge):
    generator = np.random.default_rng(0)
    for angles in [*generator.uniform(-np.pi, np.pi, (200, 3)), np.array([np.pi, 0, -0.7])]:
        quaternion = bridge.euler_to_quaternion(angles)
        assert np.linalg.norm(quaternion) == pytest.approx(1)
        again = bridge.quaternion_to_euler(*(3 * v for v in quaternion))
        assert np.allclose(euler_to_matrix(again), euler_to_matrix(angles), atol=1e-9)
    assert bridge.quaternion_to_euler(0, 0, np.sin(0.3), np.cos(0.3)) == pytest.approx([0, 0, 0.6])
    with pytest.raises(ConfigError, match="no length"):
        bridge.quaternion_to_euler(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("encoding", "order"), [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("bgra8", [2, 1, 0, 3])]
)
def test_images_become_rgb_whatever_their_rows(bridge, encoding, order):
    pixels = np.random.default_rng(0).integers(0, 255, (4, 5, 4), np.uint8)
    sent = pixels[..., order]
    rows = np.pad(sent.reshape(4, -1), ((0, 0), (0, 3)))  # rows may end with padding
    found = bridge.to_rgb(rows.tobytes(), 4, 5, rows.shape[1], encoding)
    assert np.array_equal(found, pixels[..., :3])


def test_images_that_cannot_be_read_are_refused(bridge):
    with pytest.raises(CameraError, match="encoding 'mono16'"):
        bridge.to_rgb(b"", 1, 1, 2, "mono16")
    with pytest.raises(CameraError, match="has 5 bytes"):
        bridge.to_rgb(b"12345", 1, 2, 6, "rgb8")


@pytest.mark.skipif(importlib.util.find_spec("rclpy") is not None, reason="rclpy is installed")
def test_without_ros_the_error_says_what_to_source(bridge):
    with pytest.raises(ConfigError, match=r"source ROS 2's setup\.bash"):
        bridge.RosArm()


def test_a_target_is_followed_over_topics(bridge):
    rclpy = pytest.importorskip("rclpy")
    from geometry_msgs.msg import PoseStamped
    from sensor_msgs.msg import JointState
    from std_msgs.msg import Float32

    arm, robot = bridge.RosArm(), bridge._Node("a_robot")
    ended = threading.Event()
    now = PoseStamped()
    now.pose.position.x, now.pose.orientation.x, now.pose.orientation.w = 0.5, 1.0, 0.0
    robot.node.create_subscription(
        PoseStamped, arm.topics.target, lambda target: setattr(now, "pose", target.pose), 1
    )
    sends = [
        (robot.node.create_publisher(PoseStamped, arm.topics.pose, 1), now),
        (robot.node.create_publisher(JointState, arm.topics.joints, 1), JointState(position=[0.0])),
        (robot.node.create_publisher(Float32, arm.topics.gripper, 1), Float32(data=0.08)),
    ]

    def publish():
        while not ended.wait(0.02):
            for publisher, message in sends:
                publisher.publish(message)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        target = arm.state().state + np.array([0.05, 0, 0, 0, 0, 0, 0])
        assert np.allclose(arm.send_pose(target).target, target)
        assert arm.state().state[0] == pytest.approx(0.55)
    finally:
        ended.set()
        thread.join()
        arm.close()
        robot.close()
    assert rclpy
