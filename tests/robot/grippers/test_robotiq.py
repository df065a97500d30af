"""Robotiq's 2F-85 on a simulated serial line: motion, objects, lost answers, a lost device."""

import time
from functools import partial

import numpy as np
import pytest

pytest.importorskip("minimalmodbus")
pytest.importorskip("serial")

from robot.errors import ArmError, GripperError
from robot.franka.config import FrankaConfig
from robot.franka.gripper import GripperWorker
from robot.grippers.gripper import HandOf
from robot.grippers.robotiq import CLOSED_AT, OPEN_M, RobotiqGripper
from tests.robot.grippers.fake_robotiq import FakeRobotiq


@pytest.fixture
def device():
    made = []

    def make(**settings):
        made.append(FakeRobotiq(**settings))
        return made[-1]

    yield make
    for found in made:
        found.unplug()


def wait_until(true, seconds=60.0):
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.002)
    assert true()


def test_it_is_activated_moves_and_reports_its_width(device):
    fake = device()
    gripper = RobotiqGripper(fake.port)
    assert [words[0] for words in fake.commands] == [0, 0x0100]
    assert gripper.width_m() == pytest.approx(OPEN_M)
    for width_m in (0.0, OPEN_M, 0.04):
        gripper.start(width_m, speed_m_s=0.1, force_n=20.0)
        wait_until(gripper.is_done)
        assert gripper.width_m() == pytest.approx(width_m, abs=OPEN_M / CLOSED_AT)
    gripper.close()


def test_an_active_gripper_is_not_activated_again(device):
    fake = device(activated=True)
    RobotiqGripper(fake.port).close()
    assert fake.commands == []


@pytest.mark.parametrize(
    ("speed_m_s", "force_n", "speed", "force"),
    [(0.0, 0.0, 0, 0), (0.02, 20.0, 0, 0), (0.15, 235.0, 255, 255), (9.0, 900.0, 255, 255)],
)
def test_speed_and_force_stay_within_the_grippers_own(device, speed_m_s, force_n, speed, force):
    fake = device(activated=True)
    gripper = RobotiqGripper(fake.port)
    gripper.start(0.0, speed_m_s=speed_m_s, force_n=force_n)
    assert (fake.speed, fake.force) == (speed, force)
    gripper.close()


def test_two_lost_answers_are_repeated_and_a_third_is_an_error(device):
    fake = device(activated=True)
    gripper = RobotiqGripper(fake.port)
    fake.lose = 2
    assert gripper.width_m() == pytest.approx(OPEN_M)
    fake.mute = True
    with pytest.raises(GripperError, match=r"is lost: cannot read its status .* then recover"):
        gripper.width_m()
    gripper.close()


def test_a_fault_and_a_device_that_is_none_are_named(device, tmp_path):
    fake = device(activated=True)
    gripper = RobotiqGripper(fake.port)
    gripper.start(0.0, speed_m_s=0.1, force_n=20.0)
    fake.fault = 0x0B
    with pytest.raises(GripperError, match="fault 0x0B"):
        wait_until(gripper.is_done)
    gripper.close()
    with pytest.raises(GripperError, match="cannot be opened"):
        RobotiqGripper(str(tmp_path / "ttyUSB7"))
    mute = device()
    mute.mute = True
    with pytest.raises(GripperError, match="is lost"):
        RobotiqGripper(mute.port)


def test_the_franka_drivers_worker_closes_on_an_object_and_notices_a_lost_device(device):
    fake = device(activated=True, object_at=115)
    worker = GripperWorker(lambda: HandOf(RobotiqGripper(fake.port)), FrankaConfig())
    assert not worker.closed
    worker.order(close=True)
    wait_until(lambda: not worker.busy)
    assert worker.problem is None
    assert worker.width_m == pytest.approx(OPEN_M / 2, abs=0.001)
    fake.mute = True
    wait_until(lambda: worker.lost)
    assert "is lost" in worker.lost
    worker.order(close=False)
    wait_until(lambda: not worker.busy)
    assert worker.problem.kind == "gripper"
    worker.end()


def test_a_franka_with_this_gripper_stops_when_it_is_lost_and_recovers(device):
    pytest.importorskip("franky")
    from envs.twin.twin import Twin
    from robot.franka.arm import FrankaArm, WatchdogConfig

    fake = device(activated=True, object_at=170)
    patient = WatchdogConfig(planner_s=60.0, state_s=60.0, frame_s=60.0, kill_s=60.0)
    with Twin("reach", client_s=60.0) as twin:
        twin.reset(3)
        config = FrankaConfig(
            address=twin.address,
            realtime=False,
            connect_timeout_s=60.0,
            motion_timeout_s=120.0,
            make_gripper=partial(RobotiqGripper, fake.port),
        )
        with FrankaArm(config, patient) as arm:
            arm.send([0.005, 0, 0, 0, 0, 0, 1])
            wait_until(lambda: arm.state().holding)
            assert arm.state().gripper_width_m == pytest.approx(OPEN_M * 60 / 230)
            fake.mute = True
            wait_until(lambda: arm.state().errors)
            with pytest.raises(ArmError, match=r"gripper .* is lost"):
                arm.send([0.005, 0, 0, 0, 0, 0, 0])
            fake.mute = False
            arm.recover()
            wait_until(lambda: not arm.state().errors)
            before = arm.state().state[:3]
            arm.send([0.005, 0, 0, 0, 0, 0, -1])
            assert np.linalg.norm(arm.state().state[:3] - before) > 0.003
            wait_until(lambda: arm.state().gripper_width_m > 0.07)
