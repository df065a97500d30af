import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.errors import CheckpointError, TrainingError
from worldmodel.training.loop import MetricsLog, batch_indices, load_latest, save_state
from worldmodel.training.schedules import warmup_constant_decay, warmup_flat_cosine

RUN = """
import sys, time
from pathlib import Path
import torch
from tests_run import go
go(Path(sys.argv[1]), slow=True)
"""

MODULE = """
import time
import torch
from worldmodel.training.loop import LoopConfig, batch_indices, run_loop

def go(out, slow=False, steps=40, poison=None):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    data = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    def batches(step):
        yield {"x": data[batch_indices(50, 8, step, 5)]}
    def loss_fn(batch, step):
        if slow:
            time.sleep(0.01)
        x = batch["x"] + 0.1 * torch.randn(8, 3)  # draws from the saved generator
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        return {"loss": loss * float("nan") if step == poison else loss}
    run_loop(model=model, optimizer=torch.optim.AdamW(model.parameters()), loss_fn=loss_fn,
             batches=batches, learning_rate=lambda step: 1e-2, out=out,
             config=LoopConfig(steps=steps, save_every=3, log_every=1, bf16=False))
"""


@pytest.fixture
def go(tmp_path, monkeypatch):
    (tmp_path / "tests_run.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("tests_run", None)
    import tests_run

    return tests_run.go


def losses(out: Path) -> list[tuple[int, float]]:
    rows = [json.loads(x) for x in (out / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"]) for r in rows]


def test_killed_run_equals_the_uninterrupted_one(go, tmp_path):
    go(tmp_path / "whole")
    out = tmp_path / "killed"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    kills = 0
    for attempt in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", RUN, str(out)], env=env, stderr=subprocess.DEVNULL
        )
        try:
            child.wait(timeout=60 if attempt >= 4 else 2.6 + 0.13 * attempt)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
            continue
        break
    assert child.returncode == 0
    assert losses(out) == losses(tmp_path / "whole")


def test_a_run_killed_while_it_cuts_its_metrics_keeps_them(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n{"step": 1}\n{"ste')
    whole = path.read_text()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            MetricsLog(path, 1)
    assert path.read_text() == whole
    MetricsLog(path, 1).write({"step": 1, "loss": 2.0})
    assert path.read_text() == '{"step": 0}\n{"step": 1, "loss": 2.0}\n'


def test_torn_checkpoint_falls_back_to_the_one_before(tmp_path, caplog):
    for step in (1, 2):
        save_state(tmp_path, step, {"step": step}, keep=3)
    newest = tmp_path / "step-00000002.pt"
    newest.write_bytes(newest.read_bytes()[:-10])
    assert load_latest(tmp_path)["step"] == 1
    assert "torn" in caplog.text
    older = tmp_path / "step-00000001.pt"
    older.write_bytes(b"")
    with pytest.raises(CheckpointError, match="None of the 2"):
        load_latest(tmp_path)


def test_old_checkpoints_are_dropped(tmp_path):
    for step in range(5):
        save_state(tmp_path, step, {"step": step}, keep=2)
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["step-00000003.pt", "step-00000004.pt"]


def test_full_disk_is_a_message_and_keeps_what_was_there(tmp_path, monkeypatch):
    save_state(tmp_path, 1, {"step": 1}, keep=2)

    def refuse(state, file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", refuse)
    with pytest.raises(TrainingError, match="Free space"):
        save_state(tmp_path, 2, {"step": 2}, keep=2)
    monkeypatch.undo()
    assert load_latest(tmp_path)["step"] == 1
    assert not list(tmp_path.glob("*.part"))


def test_nan_stops_and_saves_the_batch(go, tmp_path):
    with pytest.raises(TrainingError, match="nan at step 7"):
        go(tmp_path / "out", poison=7)
    saved = torch.load(tmp_path / "out" / "diverged-step-7.pt", weights_only=True)
    assert saved["x"].shape == (8, 3)


def test_batches_cover_an_epoch_once_and_depend_on_seed_and_step_alone():
    seen = np.concatenate([batch_indices(12, 4, step, 3) for step in range(3)])
    assert sorted(seen) == list(range(12))
    assert (batch_indices(12, 5, 7, 3) == batch_indices(12, 5, 7, 3)).all()
    assert (batch_indices(12, 12, 0, 3) != batch_indices(12, 12, 0, 4)).any()


def test_schedules():
    shape = {"start": 1.0, "peak": 3.0, "end": 0.0, "warmup": 10, "constant": 10, "decay": 10}
    values = [warmup_constant_decay(s, **shape) for s in (0, 5, 10, 19, 25, 30, 99)]
    assert values == [1.0, 2.0, 3.0, 3.0, 1.5, 0.0, 0.0]
    cosine = {"peak": 1.0, "total": 100, "warmup": 0.05, "flat": 0.6, "floor": 0.02}
    assert warmup_flat_cosine(30, **cosine) == 1.0
    assert warmup_flat_cosine(100, **cosine) == pytest.approx(0.02)
