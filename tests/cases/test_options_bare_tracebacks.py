"""An option out of its range is one line that names the option and its range, no traceback."""

import pytest

from planning.cli.app import main

CALLS = (
    "train recipe=smoke num_frames=0",
    "train recipe=smoke predictor_heads=0",
    "train recipe=smoke threads=-1",
    "train recipe=smoke threads=1e30",
    "train recipe=smoke batch_size=" + "9" * 400,
    "train mode=joint stem_channels=[0]",
    "pretrain short_scale=0",
    "collect objects=[]",
    "check-view robot=mujoco task=reach seed=-1",
    "plan image=???",
    "drive robot=mujoco task=reach view=true port=70000",
    "collect episodes=0",
    "collect seed=-1",
    "eval workers=0",
    "inspect energy grid=0",
)


@pytest.mark.parametrize("call", CALLS)
def test_the_message_is_one_line_that_names_the_option(call, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = call.split()
    assert main([*words, f"out={tmp_path / 'out'}"]) == 2
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    (line,) = said.err.strip().splitlines()
    assert line.startswith("error: ")
    assert words[-1].partition("=")[0] in line
    assert not (tmp_path / "out").exists()
