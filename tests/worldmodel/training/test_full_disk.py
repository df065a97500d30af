"""A small tmpfs that really fills up (in a mount namespace of each process's own)."""

import json
from pathlib import Path

import pytest
from fast_process import CONTEXT, finish, mount_small_disk, start, start_ranks

from planning.cli.app import compose_options
from worldmodel.training.run import train


def may_mount(folder: Path) -> bool:
    process = CONTEXT.Process(target=mount_small_disk, args=(folder, "1m"))
    process.start()
    return finish([process]) == [0]


@pytest.mark.parametrize("processes", [1, 2])
def test_full_disk_stops_with_a_message(tmp_path, processes):
    small = tmp_path / "small"
    small.mkdir()
    if not may_mount(small):
        pytest.skip("may not mount a tmpfs here")
    data = tmp_path / "data-run"
    words = ["recipe=smoke", "plan_clips=0", "steps=8", "save_every=1"]
    train(compose_options("train", [*words, f"out={data}", "stop_after=1"]))
    index = data / "index"
    run = ["train", *words, f"out={small}", "make_data=0", f"data={index}", f"val={index}"]
    run += ["predictor_depth=6"]
    log, disk = tmp_path / "log", (small, "3m")
    if processes == 1:
        codes, logs = finish([start(run, log, disk=disk)]), [log]
    else:
        codes = finish(start_ranks(processes, run, log, disk=disk))
        logs = [Path(f"{log}.{rank}") for rank in range(processes)]
    text = "".join(path.read_text() for path in logs)
    assert codes == [2], text[-2000:]
    assert text.count("error: Cannot write the checkpoint") == processes
    assert "Free space" in text
    assert processes > 1 or "Traceback" not in text
    assert json.loads((data / "metrics.jsonl").read_text().splitlines()[0])["step"] == 0
