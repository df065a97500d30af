"""0 or less in an option is refused with its name and range, and no untrained model is written."""

import pytest

from planning.cli.app import main

TRAIN = (
    "log_every=0",
    "save_every=0",
    "eval_every=0",
    "batch_size=0",
    "accumulate=0",
    "fps=0",
    "workers=0",
    "val_clips=0",
    "seed=-1",
    "lr=nan",
    "lr=0",
    "clip_norm=0",
    "steps=0",
    "steps=-5",
    "stop_after=-1",
    "plan_clips=-1",
    "make_data=-1",
)
PREPARE = ("fps=0", "fps=nan", "episodes_per_shard=0", "image_size=0", "max_reject_fraction=-1")


@pytest.mark.parametrize("word", TRAIN)
def test_train_refuses_it_and_writes_nothing(word, tmp_path, capfd):
    out = tmp_path / "out"
    assert main(["train", "recipe=smoke", f"out={out}", word]) == 2
    assert f"{word} is not allowed. Allowed: " in capfd.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("word", PREPARE)
def test_prepare_refuses_it_and_writes_nothing(word, tmp_path, capfd):
    out = tmp_path / "out"
    assert main(["data", "prepare", f"index={tmp_path}", f"out={out}", word]) == 2
    assert f"{word} is not allowed. Allowed: " in capfd.readouterr().err
    assert not out.exists()
