import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from fast_process import CONTEXT, wait_for_change
from torch.distributed.checkpoint import metadata as torch_metadata
from torch.distributed.checkpoint.metadata import BytesStorageMetadata

from worldmodel.errors import CheckpointError, TrainingError
from worldmodel.shutdown import Stopped
from worldmodel.training import checkpointing
from worldmodel.training.batches import Prefetcher, batch_indices, micro_batch
from worldmodel.training.checkpointing import CheckpointStore
from worldmodel.training.loop import Callbacks, run_loop
from worldmodel.training.metrics import MetricsLog
from worldmodel.training.run_options import LoopConfig
from worldmodel.training.schedules import warmup_constant_decay, warmup_flat_cosine

MODULE = """
import time
import torch
from worldmodel.training.batches import batch_indices
from worldmodel.training.loop import run_loop
from worldmodel.training.run_options import LoopConfig

def go(out, slow=False, steps=40, poison=None):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    data = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    def batches(step):
        yield {"x": data[batch_indices(50, 8, step, 5)], "step": torch.tensor(step)}
    def loss_fn(batch):
        if slow:
            time.sleep(0.02)
        x = batch["x"] + 0.1 * torch.randn(8, 3)  # draws from the saved generator
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        return {"loss": loss * float("nan") if batch["step"] == poison else loss}
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
    for kill in range(5):
        child = CONTEXT.Process(target=go, args=(out, True))
        child.start()
        if wait_for_change(out / "metrics.jsonl", child):
            time.sleep(0.03 * kill)
        assert child.is_alive(), "the run was over before its kill"
        child.kill()
        child.join()
    go(out)
    assert len(losses(out)) == 40
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


@pytest.fixture
def state():
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_a_checkpoint_holds_weights_moments_and_the_random_generator(tmp_path, state):
    store, (model, optimizer) = CheckpointStore(tmp_path), state
    store.save(1, model, optimizer)
    drawn = torch.rand(3)
    other = torch.nn.Linear(3, 1)
    again = torch.optim.AdamW(other.parameters())
    assert store.load(other, again) == 1
    assert torch.equal(torch.rand(3), drawn)
    assert torch.equal(other.weight, model.weight)
    for mine, saved in zip(
        again.state_dict()["state"].values(), optimizer.state_dict()["state"].values(), strict=True
    ):
        assert mine.keys() == saved.keys()
        assert all(torch.equal(mine[name], saved[name]) for name in saved)


@pytest.mark.parametrize("file", ["__0_0.distcp", ".metadata"])
def test_torn_checkpoint_falls_back_to_the_one_before(tmp_path, caplog, state, file):
    store = CheckpointStore(tmp_path, keep=3)
    for step in (1, 2):
        store.save(step, *state)
    newest = tmp_path / "step-00000002" / file
    newest.write_bytes(newest.read_bytes()[:-10])
    assert store.load(*state) == 1
    assert "step-00000002 is damaged" in caplog.text
    (tmp_path / "step-00000001" / file).write_bytes(b"")
    with pytest.raises(CheckpointError, match="None of the 2"):
        store.load(*state)


def test_any_of_fifty_flipped_bits_is_found(tmp_path, state):
    store = CheckpointStore(tmp_path)
    store.save(1, *state)
    store.save(2, *state)
    newest, draw = tmp_path / "step-00000002", random.Random(0)
    files = sorted(path for path in newest.iterdir() if path.name != "whole.json")
    for number in range(50):
        path = files[number % len(files)]
        data = path.read_bytes()
        spoiled = bytearray(data)
        spoiled[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(spoiled)
        assert store.load(*state) == 1
        path.write_bytes(data)
    assert store.load(*state) == 2


class _Spy:
    """Unpickling it makes a folder, as a stranger's checkpoint could do anything."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


class _ByGetattr:
    """Pickled as `getattr`, as early Python 3.11 pickles members of enumerations."""

    def __init__(self, kind, name):
        self.parts = kind, name

    def __reduce__(self):
        return getattr, self.parts


def test_a_checkpoint_of_early_python_3_11_loads(tmp_path, state):
    store = CheckpointStore(tmp_path)
    store.save(1, *state)
    step = tmp_path / "step-00000001"
    metadata = pickle.loads((step / ".metadata").read_bytes())
    formats = torch_metadata._MEM_FORMAT_ENCODING
    metadata.planner_data = _ByGetattr(formats, "TORCH_CONTIGUOUS_FORMAT")
    (step / ".metadata").write_bytes(pickle.dumps(metadata))
    seal(step)
    assert store.load(*state) == 1


def seal(step):
    """Make the hashes of a checkpoint fit its files again, as a stranger would."""
    whole = json.loads((step / "whole.json").read_text())
    for name in whole["sha256"]:
        whole["sha256"][name] = hashlib.sha256((step / name).read_bytes()).hexdigest()
    (step / "whole.json").write_text(json.dumps(whole))


@pytest.mark.parametrize("where", ["metadata", "value", "path", "class", "getattr"])
def test_a_stranger_s_checkpoint_runs_no_code_and_reads_no_other_file(where, tmp_path, state):
    store, step, harm = (
        CheckpointStore(tmp_path / "a"),
        tmp_path / "a/step-00000001",
        tmp_path / "x",
    )
    store.save(1, *state)
    metadata = pickle.loads((step / ".metadata").read_bytes())
    if where == "metadata":
        metadata.planner_data = _Spy(harm)
    elif where == "path":
        (tmp_path / "secret").write_bytes((step / "__0_0.distcp").read_bytes())
        for info in metadata.storage_data.values():
            info.relative_path = str(tmp_path / "secret")
    elif where == "class":
        metadata.planner_data = subprocess.Popen
    elif where == "getattr":
        metadata.planner_data = _ByGetattr(torch_metadata.Metadata, "__init__")
    else:
        with (step / "__0_1.distcp").open("wb") as file:
            torch.save(_Spy(harm), file)
        for index, info in metadata.storage_data.items():
            if isinstance(metadata.state_dict_metadata[index.fqn], BytesStorageMetadata):
                info.relative_path, info.offset = "__0_1.distcp", 0
                info.length = (step / "__0_1.distcp").stat().st_size
    (step / ".metadata").write_bytes(pickle.dumps(metadata))
    whole = json.loads((step / "whole.json").read_text())
    if where == "value":
        whole["sha256"]["__0_1.distcp"] = ""
    (step / "whole.json").write_text(json.dumps(whole))
    seal(step)
    with pytest.raises(CheckpointError, match="was refused" if where != "value" else "not fit"):
        store.load(*state)
    assert not harm.exists()


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "null", '{"sha256": []}', '{"sha256": {}}', '{"sha256": {".metadata": 3}}'),
        '{"sha256": {".metadata": "0", "../../x": "0"}}',
        '{"sha256": {".metadata": "0"}, "run": [1]}',
        "[" * 100_000,
    ],
)
def test_a_damaged_list_of_hashes_is_a_damaged_checkpoint(text, tmp_path, state):
    store = CheckpointStore(tmp_path)
    store.save(1, *state)
    store.save(2, *state)
    (tmp_path / "step-00000002" / "whole.json").write_text(text)
    (tmp_path / "step-later").mkdir()
    assert store.load(*state) == 1


def test_a_signal_while_a_checkpoint_is_written_is_no_failure_of_the_disk(
    tmp_path, state, monkeypatch
):
    class Interrupted(checkpointing.FileSystemWriter):
        def write_data(self, *_):
            raise Stopped(signal.SIGTERM)

    store = CheckpointStore(tmp_path)
    store.save(1, *state)
    monkeypatch.setattr(checkpointing, "FileSystemWriter", Interrupted)
    with pytest.raises(Stopped, match="SIGTERM"):
        store.save(2, *state)
    assert store.load(*state) == 1


def test_a_folder_that_a_kill_left_is_no_checkpoint(tmp_path, state):
    store = CheckpointStore(tmp_path)
    store.save(1, *state)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / "step-00000002.part")
    assert store.load(*state) == 1
    store.save(2, *state)
    assert store.load(*state) == 2


def test_old_checkpoints_are_dropped_and_older_versions_refused(tmp_path, state):
    store = CheckpointStore(tmp_path, keep=2)
    for step in range(5):
        store.save(step, *state)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]
    old = tmp_path / "old"
    old.mkdir()
    (old / "step-00000007.pt").touch()
    with pytest.raises(CheckpointError, match="older version"):
        CheckpointStore(old).load(*state)


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


def test_ranks_and_micro_batches_share_a_batch_without_overlap():
    parts = [micro_batch(24, m, 2, r, 3) for m in range(2) for r in range(3)]
    assert [list(range(24))[part] for part in parts] == [
        list(range(i, i + 4)) for i in range(0, 24, 4)
    ]


def test_prefetching_keeps_the_order_and_ends_with_the_run():
    asked = []

    def load(step, micro):
        asked.append((step, micro))
        return {"x": torch.tensor([step, micro])}

    batches = Prefetcher(load, accumulate=2, steps=3)
    seen = [tuple(b["x"].tolist()) for step in range(3) for b in batches(step)]
    batches.close()
    assert seen == asked == [(s, m) for s in range(3) for m in range(2)]


def test_schedules():
    shape = {"start": 1.0, "peak": 3.0, "end": 0.0, "warmup": 10, "constant": 10, "decay": 10}
    values = [warmup_constant_decay(s, **shape) for s in (0, 5, 10, 19, 25, 30, 99)]
    assert values == [1.0, 2.0, 3.0, 3.0, 1.5, 0.0, 0.0]
    cosine = {"peak": 1.0, "total": 100}
    assert warmup_flat_cosine(30, **cosine) == 1.0
    assert warmup_flat_cosine(100, **cosine) == pytest.approx(0.02)


def small_run(out, validate=None, **config):
    """Train one weight on ones; returns the steps that validate."""
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    run_loop(
        model=model,
        optimizer=torch.optim.SGD(model.parameters()),
        loss_fn=lambda batch: {"loss": model(batch["x"]).square().mean()},
        batches=lambda step: iter([{"x": torch.ones(1, 1)}]),
        learning_rate=lambda step: 1e-3,
        out=out,
        config=LoopConfig(bf16=False, **config),
        callbacks=Callbacks(validate=validate),
    )


def test_validations_come_when_they_are_asked_for_whatever_is_logged(tmp_path):
    small_run(tmp_path, lambda: {"val": 1.0}, steps=21, log_every=7, eval_every=5)
    rows = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "val" in row] == [0, 5, 10, 15, 20]
    assert [row["step"] for row in rows] == [0, 5, 7, 10, 14, 15, 20]
