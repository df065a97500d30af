"""Every use of a CUDA device runs to its end on a make-believe one, without mixes and waits.

A CPU build of torch has no CUDA device guard, which autograd asks for, and a CUDA build's asks the
driver; a few lines of C++ register one that does nothing. Everything runs in a process of its
own, since it changes torch.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cuda_guard.faults import FAULTS
from tests.cuda_guard.guards import (
    GUARDS,
    MOST_MOVED,
    NUM_ITERATIONS,
    NUM_PLANS,
    STEP_UPLOADS,
    Row,
    frees_nothing_early,
    moves_few_bytes,
    never_waits_in_a_capture,
    replays_later_plans,
    waits_in_steps_where_allowed,
)

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(900)  # half a minute on an idle core

EXPECTED = {
    *("encode", "unroll", "bfloat16", "captured", "captured_together", "skills", "energies"),
    *("features", "probe_heads"),
    *("inspected", "surprise", "policies", "decoder"),
    *("plan_cem", "plan_icem", "plan_mppi", "plan_gradient"),
    *("train_joint", "train_joint_published", "train_frozen", "train_finetune", "train_post"),
    *("train_joint_logged", "train_pretrain", "train_images", "moved_bf16", "moved_autocast"),
    *("train_post_compiled", "pretrain_graphed"),
}
"""Cases that run to their end. Nevergrad's is added where the package is installed."""


def build(folder: Path) -> Path:
    """Compile the no-op device guard; skip without a compiler."""
    if sys.platform != "linux" or shutil.which("g++") is None:
        pytest.skip("the make-believe device needs Linux and g++ to build a device guard for torch")
    spec = find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    torch, library = Path(spec.origin).parent, folder / "one_device.so"
    words = ["-std=c++20", "-O0", "-shared", "-fPIC", f"-I{torch / 'include'}"]
    linked = [f"-L{torch / 'lib'}", f"-Wl,-rpath,{torch / 'lib'}", "-lc10", "-ltorch_cpu"]
    command = ["g++", *words, str(HERE / "one_device.cpp"), *linked, "-o", str(library)]
    subprocess.run(command, check=True)
    return library


def run_cases(library: Path) -> str:
    """Run all cases in a process; return its standard output."""
    command = [sys.executable, "-m", "tests.cuda_guard.cases", str(library)]
    root = str(HERE.parents[1])
    paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr[-4000:]
    return done.stdout


def read_records(printed: str) -> dict[str, Row]:
    """Return the records of `run_cases` by name."""
    rows = [x.removeprefix("RECORD ") for x in printed.splitlines() if "RECORD" in x]
    return {row["name"]: row for row in map(json.loads, rows)}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Records of all cases by name; processes of one test run share them."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    found = folder / "cuda_guard.txt"
    with (folder / "cuda_guard.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            found.write_text(run_cases(build(folder)))
    return read_records(found.read_text())


def trained(records):
    return {name: row["step"] for name, row in records.items() if name.startswith("train_")}


def test_everything_runs_to_its_end_and_mixes_no_devices(records):
    ran = {name for name, row in records.items() if not row["error"]}
    wrong = {name: records[name]["error"] for name in EXPECTED - ran if name in records}
    assert not wrong, "\n".join(wrong.values())
    assert ran >= EXPECTED
    if find_spec("nevergrad"):
        assert "plan_nevergrad" in ran


def test_a_captured_iteration_never_waits(records):
    for name in ("captured", "captured_together", "pretrain_graphed"):
        assert records[name]["captures"]
        assert records[name]["replays"]
    for name in EXPECTED:
        never_waits_in_a_capture(name, records[name])


def test_later_plans_replay_the_graphs_of_the_first(records):
    for name in ("captured", "captured_together"):
        replays_later_plans(name, records[name])
    # the gripper's search after longer ones replays a graph of its own
    replays = records["captured_together"]["step"]["graphs"]["replays"]
    assert replays in {n * NUM_ITERATIONS for n in range(NUM_PLANS, 2 * NUM_PLANS + 1)}


def test_a_training_step_waits_where_it_is_allowed_to(records):
    for name, row in records.items():
        if name.startswith("train_"):
            waits_in_steps_where_allowed(name, row)


def test_the_next_batch_is_copied_beside_the_step(records):
    beside, on_main = STEP_UPLOADS
    for name, step in trained(records).items():
        assert step["uploads"][beside] >= 1, name
        assert step["uploads"].get(on_main, 0) <= 2, name  # of two micro-batches at most


def test_a_tensor_of_another_stream_must_be_waited_for_and_recorded(records):
    for name in EXPECTED:
        frees_nothing_early(name, records[name])
    assert records["faulty_streams"]["figures"] == {"not waited": 1, "freed early": 1}


def test_elementwise_operators_move_few_bytes(records):
    for name in MOST_MOVED:
        moves_few_bytes(name, records[name])


def test_a_mix_a_wait_and_a_copy_are_seen(records):
    assert "MixedDevicesError" in records["faulty_mix"]["error"]
    assert set(records["faulty_wait"]["captured"]) == {
        "item at elsewhere",
        "pageable copy to the device at elsewhere",
    }
    # read 2 and write 4 bytes a number, then read 4 and write 2: six activations of 2 bytes
    assert records["faulty_copy"]["figures"]["activations"] == 6.0


@pytest.mark.parametrize("name", FAULTS)
def test_a_guard_fails_on_each_fault_that_is_put_back(records, name):
    fault = FAULTS[name]
    with pytest.raises(AssertionError):
        GUARDS[fault.guard](fault.case, records[name])
    if fault.guard != "runs_to_its_end":  # then the fault alone makes the guard fail
        assert not records[name]["error"]
