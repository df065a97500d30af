"""States in another unit are refused wherever a state is read."""

import json

import numpy as np
import pytest
from PIL import Image

from planning.apps.inspect_energy import read_pictures, read_trajectory
from planning.errors import PlanError
from planning.goals import read_goals
from planning.options import START_STATE
from planning.states import check_state

WRONG = {
    "millimetres": [500, 0, 280, 3.14, 0, 0, 0],
    "one axis in millimetres": [0.5, 0, 280, 3.14, 0, 0, 0],
    "degrees": [0.5, 0, 0.28, 180, 0, -45, 0],
    "one angle in degrees": [0.5, 0, 0.28, 3.14, 0, -45, 0],
    "two turns": [0.5, 0, 0.28, 6.29, 0, 0, 0],
    "gripper in millimetres": [0.5, 0, 0.28, 3.14, 0, 0, 80],
    "gripper below 0": [0.5, 0, 0.28, 3.14, 0, 0, -1],
    "NaN": [np.nan, 0, 0.28, 3.14, 0, 0, 0],
    "infinity": [0.5, 0, 0.28, 3.14, 0, -np.inf, 0],
}


@pytest.mark.parametrize("name", WRONG)
def test_every_reader_of_states_refuses_other_units(name, tmp_path):
    state = np.array(WRONG[name], float)
    with pytest.raises(PlanError, match="state"):
        check_state(state)
    picture = tmp_path / "00-goal.png"
    Image.new("RGB", (32, 32)).save(picture)
    picture.with_suffix(".json").write_text(
        json.dumps({"name": "goal", "steps": 3, "state": state.tolist()})
    )
    with pytest.raises(PlanError, match=r"00-goal\.json"):
        read_goals(picture, [])
    with pytest.raises(PlanError, match=r"states\[7:14\]"):
        read_pictures(str(picture), str(picture), [*START_STATE, *state])
    frames, states = np.zeros((2, 8, 8, 3), np.uint8), np.array([START_STATE, state])
    np.savez(tmp_path / "t.npz", observations=frames, states=states)
    with pytest.raises(PlanError, match=r"t\.npz"):
        read_trajectory(str(tmp_path / "t.npz"), 0, 1)


def test_states_in_the_right_units_pass(tmp_path):
    check_state(START_STATE)
    check_state([-0.8, 0.9, 1.2, -np.pi, np.pi, 0, 1.02])
    check_state(np.zeros(9))
    picture = tmp_path / "00-goal.png"
    Image.new("RGB", (32, 32)).save(picture)
    facts = {"name": "goal", "steps": 3, "state": [float("nan")] * 7}
    picture.with_suffix(".json").write_text(json.dumps(facts))
    assert np.isnan(read_goals(picture, [])[0].state).all()
