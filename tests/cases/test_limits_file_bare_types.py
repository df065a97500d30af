"""A wrong value in a limits file is one line with the file, the name, the value and its range."""

import pytest

from planning.apps.workcell import read_limits
from planning.cli.app import main
from robot.errors import ConfigError

WRONG = {
    "max_step_m: x": "max_step_m='x'.*0.0001 to 0.2 m",
    "max_step_m: .nan": "max_step_m=nan.*0.0001 to 0.2 m",
    "max_step_m: .inf": "max_step_m=inf",
    "max_step_m: true": "max_step_m=True",
    "max_step_m: [0.1]": r"max_step_m=\[0.1\]",
    "max_step_m:": "max_step_m=None",
    "max_step_m: {a: 1}": "max_step_m={",
    "flange_low_m: abc": "flange_low_m='abc'.*3 values",
    "flange_low_m: [0, 0]": "flange_low_m.*3 values",
    "flange_low_m: [0, 0, .nan]": r"flange_low_m\[2\]=nan",
    "flange_low_m: [0, 0, x]": r"flange_low_m\[2\]='x'",
    "flange_low_m: [a: 1]": "flange_low_m",
    "step_s: -1": "step_s=-1.*0.001 to 10 s",
    "step_s: 0": "step_s=0",
    "clearance_m: .nan": "clearance_m=nan",
    "clearance_m: -0.1": "clearance_m=-0.1",
    "table_z_m: .inf": "table_z_m=inf",
    "joint_margin_rad: .nan": "joint_margin_rad=nan",
    "max_lag_m: .nan": "max_lag_m=nan",
    "contact_n: 25": "contact_n=25.*0 to 20 N",
    "on_violation: 3": "on_violation=3.*clip, reject",
    "max_steps_m: 0.1": "Unknown limits.*known",
    "1: 2": "Unknown limits.*known",
    "- max_step_m": "no `key: value` lines",
    "just text": "no `key: value` lines",
    "": "no `key: value` lines",
    "# a comment": "no `key: value` lines",
    "a: [": "cannot be read",
    "max_step_m: ${nothing}": "cannot be read|max_step_m",
}


@pytest.mark.parametrize("text", WRONG)
def test_the_file_is_refused_with_its_name(text, tmp_path):
    file = tmp_path / "limits.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=WRONG[text]) as error:
        read_limits(str(file))
    assert str(file) in str(error.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    file = tmp_path / "limits.yaml"
    file.write_bytes(b"\xff\xfe\x00max")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_limits(str(file))


def test_a_command_ends_with_one_line(tmp_path, capfd):
    file = tmp_path / "limits.yaml"
    file.write_text("max_step_m: x\n")
    words = ["check-view", "robot=mujoco", "task=reach", f"limits={file}", f"out={tmp_path / 'o'}"]
    assert main(words) == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert said.strip().splitlines()[-1].startswith(f"error: Limits '{file}': max_step_m='x'")
