"""Joint positions become poses through the forward kinematics of a URDF or an MJCF."""

import numpy as np
import pytest

from robot.kinematics import DH, FLANGE_M, LIMITS, flange_pose
from worldmodel.data.arm_model import ArmModel
from worldmodel.data.column_map import ColumnMap
from worldmodel.data.episode import EpisodeError
from worldmodel.data.mapped_states import read_states
from worldmodel.data.rotations import from_euler
from worldmodel.errors import ConfigError


def franka_urdf() -> str:
    """The arm's published Denavit-Hartenberg parameters as a URDF with meshes that are missing."""
    mesh = '<visual><geometry><mesh filename="package://no/where.dae"/></geometry></visual>'
    lines = [f'<link name="base">{mesh}</link>']
    parent = "base"
    for number, (a, d, alpha) in enumerate(DH, 1):
        s, c = np.sin(alpha), np.cos(alpha)
        lines += [
            f'<link name="link{number}">{mesh}</link>',
            f'<joint name="joint{number}" type="revolute"><parent link="{parent}"/>'
            f'<child link="link{number}"/><axis xyz="0 0 1"/>'
            f'<origin xyz="{a} {-d * s} {d * c}" rpy="{alpha} 0 0"/>'
            '<limit lower="-9" upper="9" effort="1" velocity="1"/></joint>',
        ]
        parent = f"link{number}"
    lines += [
        '<link name="flange"/><joint name="fixed" type="fixed"><parent link="link7"/>'
        f'<child link="flange"/><origin xyz="0 0 {FLANGE_M}"/></joint>'
    ]
    return f'<robot name="fr3">{"".join(lines)}</robot>'


MJCF = """
<mujoco><worldbody><body name="arm"><joint name="turn" axis="0 0 1"/><geom size="0.01"/>
<body name="slider" pos="0.5 0 0"><joint name="out" type="slide" axis="1 0 0"/><geom size="0.01"/>
<site name="tip" pos="0.1 0 0"/></body></body></worldbody></mujoco>
"""


@pytest.fixture
def urdf(tmp_path):
    path = tmp_path / "fr3.urdf"
    path.write_text(franka_urdf())
    return path


def random_joints(count=20):
    low, high = np.array(LIMITS["fr3"].low), np.array(LIMITS["fr3"].high)
    return np.random.default_rng(0).uniform(low, high, (count, 7))


def test_a_urdf_gives_the_poses_of_the_drivers_kinematics(urdf):
    joints = random_joints()
    places, turns = ArmModel(urdf, "flange").poses(joints)
    wanted = np.stack([flange_pose(q) for q in joints])
    np.testing.assert_allclose(places, wanted[:, :3, 3], atol=1e-9)
    np.testing.assert_allclose(turns, wanted[:, :3, :3], atol=1e-9)


def test_states_come_from_joints_in_degrees_and_any_order(urdf):
    joints = random_joints()
    order = [2, 0, 1, 6, 5, 4, 3]
    columns = ColumnMap(
        state="q",
        state_kind="joints",
        angle_unit="deg",
        robot_file=str(urdf),
        robot_body="flange",
        robot_joints=tuple(f"joint{i + 1}" for i in order),
        gripper="none",
        left="c",
        actions="target",
        action="q",
    )
    found = read_states(lambda _: np.rad2deg(joints[:, order]), columns)
    wanted = np.stack([flange_pose(q) for q in joints])
    np.testing.assert_allclose(found.states_TS[:, :3], wanted[:, :3, 3], atol=1e-9)
    np.testing.assert_allclose(from_euler(found.states_TS[:, 3:6]), wanted[:, :3, :3], atol=1e-7)
    np.testing.assert_allclose(found.joints_TJ, joints[:, order], atol=1e-9)
    np.testing.assert_array_equal(found.targets_TS, found.states_TS)


def test_an_mjcf_with_a_site(tmp_path):
    path = tmp_path / "arm.xml"
    path.write_text(MJCF)
    places, _ = ArmModel(path, "tip").poses(np.array([[0.0, 0.0], [np.pi / 2, 0.2]]))
    np.testing.assert_allclose(places, [[0.6, 0, 0], [0, 0.8, 0]], atol=1e-12)


@pytest.mark.parametrize(
    ("text", "body", "joints", "message"),
    [
        (MJCF, "hand", (), "has the bodies .*arm.* the sites .*tip"),
        (MJCF, "tip", ("elbow",), "has the joints .*turn"),
        ("<robot", "tip", (), "cannot be read"),
        ("<robot><link/></robot>", "tip", (), "cannot be read|is not in"),
        ("<mujoco><nonsense/></mujoco>", "tip", (), "cannot be read"),
        pytest.param("<robot>" * 9000 + "</robot>" * 9000, "tip", (), "cannot be read", id="deep"),
    ],
)
def test_a_wrong_robot_is_one_error(tmp_path, text, body, joints, message):
    path = tmp_path / "arm.xml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        ArmModel(path, body, joints)


def test_a_missing_robot_is_one_error(tmp_path):
    with pytest.raises(ConfigError, match="is not a file"):
        ArmModel(tmp_path / "none.urdf", "hand")


def test_another_number_of_joints_is_a_reject(tmp_path):
    path = tmp_path / "arm.xml"
    path.write_text(MJCF)
    with pytest.raises(EpisodeError, match="column_width"):
        ArmModel(path, "tip").poses(np.zeros((3, 4)))
