"""Every long command ends on SIGINT, SIGTERM and SIGHUP: soon, alone, and so that it can resume."""

import itertools
import json
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.collect import collect
from envs.config import CollectConfig
from planning.apps import episode_runner
from planning.cli.app import main
from planning.skills.play import random_skill
from worldmodel.data.index import build_index
from worldmodel.data.writers import lerobot
from worldmodel.data.writers.droid import write_episode
from worldmodel.data.writers.video import write_video
from worldmodel.models.config import ProbeConfig
from worldmodel.perception.anticipation.pipeline import AnticipationProbe

sys.path.insert(0, str(Path(__file__).parent))
from ended_command import end, run

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
EPISODES, PAIRS, ITEMS = 8, 40, 2000


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Return the folder of all inputs."""
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def write_inputs(root: Path) -> Path:
    """Write raw episodes, their index, videos of noise, and the sets of the other commands."""
    config = CollectConfig(out=str(root / "data"), episodes=EPISODES, length=12, image_size=64)
    collect(config, write_episode, random_skill)
    build_index(root / "data", root / "index", workers=1)
    frames = np.random.default_rng(0).integers(0, 256, (48, 240, 320, 3), dtype=np.uint8)
    for i in range(EPISODES):
        write_video(root / "videos" / f"{i}.mp4", frames)
    write_sets(root)
    return root


def write_sets(root: Path) -> None:
    """Write a GRASP set, a list of labelled videos, and annotated actions with their probe."""
    frames = np.random.default_rng(1).integers(0, 256, (80, 64, 80, 3), dtype=np.uint8)
    write_video(root / "P01" / "P01_01.MP4", frames, header_fps=16)
    for kind, i in itertools.product(("P", "IP"), range(PAIRS)):
        path = root / "level2" / f"{kind}_Gravity" / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "P01" / "P01_01.MP4", path)
    labelled = [f"videos/{i % EPISODES}.mp4 {i % 2}\n" for i in range(ITEMS)]
    (root / "list.txt").write_text("".join(labelled))
    header = "video_id,start_frame,stop_frame,verb_class,noun_class\n"
    rows = [f"P01_01,{40 + i % 20},{60 + i % 20},{i % 2},5\n" for i in range(ITEMS)]
    for split in ("train", "validation"):
        (root / f"EPIC_100_{split}.csv").write_text(header + "".join(rows))
    config = ProbeConfig(embed_dim=16, num_heads=4, depth=2, num_queries=3)
    probe = AnticipationProbe(config, {"verb": 2, "noun": 1, "action": 2})
    torch.save({"classifiers": [probe.state_dict()]}, root / "probe.pt")


def has(*texts: str):
    """Return whether one of the texts is in a command's output."""
    return lambda output: any(text in output for text in texts)


def begun(count: int, least: int = 1):
    """Return whether a progress bar has counted some of its items."""
    return has(*(f" {done}/{count} [" for done in range(least, count)))


KEPT = {"surprise": "measured.jsonl", "anticipate": "scored.jsonl", "bench": "rows.jsonl"}
"""Commands that append results as they come -> file of the results."""
GOLDEN = Path(__file__).parents[1] / "golden" / "perception"
SURPRISE, MODEL = GOLDEN / "vjepa1_surprise_layout.pth.tar", GOLDEN / "vjepa2_layout.pt"
SMALL = ["num_heads=2", "predictor_heads=2", "image_size=48", "device=cpu"]
RUN = ["log_every=1", "batch_size=8", "val_clips=8", "steps=100000", "device=cpu"]
COMMANDS = {
    "collect": (["collect", "episodes=60", "workers=2"], begun(60)),
    "eval": (["eval", "task=reach", "episodes=60", "workers=2", "samples=16"], begun(60)),
    "eval alone": (["eval", "task=reach", "episodes=60", "workers=1", "samples=16"], begun(60)),
    "eval shard": (
        ["eval", "task=reach", "episodes=60", "workers=2", "samples=16", "shard=0", "shards=2"],
        begun(30),
    ),
    "demo": (
        ["demo", "episodes=60", "workers=2", "skill_samples=16"],
        has("pick-and-place episodes"),
    ),
    "data prepare": (
        ["data", "prepare", "index={inputs}/index", "episodes_per_shard=1", "image_size=1024"],
        begun(EPISODES),
    ),
    "data dense": (["data", "dense", "train=60", "val=0", "image_size=64"], begun(60)),
    "features": (
        ["features", "videos={inputs}/videos", "model=default", "num_frames=1"],
        has("features:"),
    ),
    "train": (["train", "data={inputs}/data", "val={inputs}/data", *RUN], has("loss=")),
    "pretrain": (["pretrain", "data={inputs}/data", "val={inputs}/data", *RUN], has("loss=")),
    "drive": (
        ["drive", "robot=fake", "task=reach", "execute=true", "confirm=false", "episodes=60"],
        has("energy="),
    ),
    "surprise": (
        ["surprise", "benchmark=grasp", "data={inputs}", f"model={SURPRISE}", *SMALL, "step=1"],
        begun(PAIRS),
    ),
    "anticipate": (
        [
            *("anticipate", "annotations={inputs}", "videos={inputs}", "probe={inputs}/probe.pt"),
            *(f"model={MODEL}", "probe_heads=4", "num_heads=1", *SMALL[1:], "num_frames=8"),
        ],
        begun(ITEMS, 4),  # the first batch, of two clips, is scored
    ),
    "probe train": (
        [
            *("probe", "train", "train={inputs}/list.txt", "val={inputs}/list.txt", "device=cpu"),
            *("encoder=default", "clips.num_frames=1", "num_segments=1", "num_views=1"),
        ],
        begun(ITEMS),
    ),
    "bench": (["bench", "planning", "sizes=[small]", "horizons=[1,8]"], has("baseline")),
}
FILES = {"features": "f.h5"}
ELSEWHERE = ("collect", "eval shard", "train")
"""Commands that other tests here end by SIGTERM, or that are as another one in this respect."""


def words_of(name: str, inputs: Path, out: Path) -> list[str]:
    words = [word.format(inputs=inputs) for word in COMMANDS[name][0]]
    return [*words, f"out={out / FILES.get(name, '')}"]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ELSEWHERE])
def test_sigterm_ends_a_command_soon_with_its_children(name, inputs, tmp_path):
    out = tmp_path / "out"
    words, ready = words_of(name, inputs, out), COMMANDS[name][1]
    ended = end(words, tmp_path / "log", ready, signal.SIGTERM)
    ended.check(signal.SIGTERM)
    if "within a long computation" not in ended.text:  # as on a busy machine
        assert not list(out.rglob("*.lock"))
        assert not list(out.rglob("*.part"))
    if name in KEPT:
        assert '"key"' in (out / KEPT[name]).read_text()


def test_a_stopped_conversion_leaves_nothing(tmp_path):
    out = tmp_path / "out" / "c.safetensors"
    words = ["convert", f"source={MODEL}", "part=encoder", "num_heads=1", "image_size=48"]
    words += [f"out={out}"]

    def ready(_: str) -> bool:
        return any(out.parent.glob(".*.lock"))

    end(words, tmp_path / "log", ready, signal.SIGTERM).check(signal.SIGTERM)
    assert not list(out.parent.glob("*c.safetensors*.part"))
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS[1:])
@pytest.mark.parametrize("name", COMMANDS)
def test_other_signals_end_a_command_as_well(name, number, inputs, tmp_path):
    words, ready = words_of(name, inputs, tmp_path / "out"), COMMANDS[name][1]
    end(words, tmp_path / "log", ready, number).check(number)


@pytest.fixture(scope="module")
def copies(inputs, tmp_path_factory):
    """Return a function that writes a folder of copies of one episode."""

    def write(count: int) -> Path:
        root = tmp_path_factory.mktemp("copies")
        episode = next((inputs / "data").glob("*/*/*/episode-*"))
        for i in range(count):
            shutil.copytree(episode, root / "SIM" / "success" / "copies" / f"episode-{i:03d}")
        return root

    return write


def test_a_killed_conversion_goes_on_with_its_kept_videos(copies, tmp_path, monkeypatch):
    def words(name: str) -> list[str]:
        return ["data", "convert", f"root={data}", "workers=1", f"out={tmp_path / name}"]

    data, encoded = copies(30), set()
    kept = tmp_path / "out" / "unfinished" / "videos.jsonl"
    end(
        words("out"),
        tmp_path / "log",
        lambda _: kept.is_file() and kept.read_text().count('"key"') >= 2,
        signal.SIGKILL,
    )
    done = kept.read_text().count("}\n") - 1  # the first line names what the others depend on

    encode = lerobot.encode

    def counted(*args):
        encoded.add(args[0].name)
        return encode(*args)

    monkeypatch.setattr(lerobot, "encode", counted)
    assert main(words("out")) == 0
    assert len(encoded) == 30 - done
    assert main(words("whole")) == 0
    out, whole = (
        {file.relative_to(root): file.read_bytes() for file in root.rglob("*") if file.is_file()}
        for root in (tmp_path / "out", tmp_path / "whole")
    )
    assert out == whole


def test_collect_goes_on_where_a_signal_ended_it(tmp_path):
    words = ["collect", "episodes=6", "length=12", "workers=2", f"out={tmp_path}/out"]
    ended = end(words, tmp_path / "log", begun(6), signal.SIGTERM)
    ended.check(signal.SIGTERM)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["interrupted"]
    run(words)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["already_there"] >= 1
    assert len(list((tmp_path / "out").glob("SIM/*/*/episode-*"))) == 6


def test_a_killed_evaluation_goes_on_with_its_kept_episodes(tmp_path, capsys, monkeypatch):
    """Worker processes find what this process finds."""
    words = ["eval", "task=reach", "episodes=5", "baselines=false", "workers=1", "sub_goals=one"]
    words += ["samples=16", "iterations=2", "elites=2", "stretch=1"]
    out = tmp_path / "out"

    def ready(_: str) -> bool:
        return any(out.glob("unfinished/episodes/*.npz"))

    end([*words, "workers=2", f"out={out}"], tmp_path / "log", ready, signal.SIGKILL)
    kept = {file: file.stat().st_mtime_ns for file in out.glob("unfinished/episodes/*.npz")}
    assert 1 <= len(kept) < 5
    assert main([*words, f"out={out}", "samples=20", "seed=1"]) == 2
    refused = capsys.readouterr().err
    assert "(options.planner.samples: 16, 20; options.seed: 0, 1)" in refused
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    played: list[int] = []
    run_episode = episode_runner.run_episode

    def counted(*args, seed: int, **options):
        played.append(seed)
        return run_episode(*args, seed=seed, **options)

    monkeypatch.setattr(episode_runner, "run_episode", counted)
    assert main([*words, f"out={out}"]) == 0
    assert len(played) == 5 - len(kept)
    assert main([*words, f"out={tmp_path}/whole"]) == 0
    assert not (out / "unfinished").exists()
    one, other = ((folder / "episodes.jsonl").read_text() for folder in (out, tmp_path / "whole"))
    assert one == other


def test_sigterm_ends_a_training_and_a_second_run_in_its_folder_is_refused(
    inputs, tmp_path, capsys
):
    words = words_of("train", inputs, tmp_path / "out")
    status: list[int] = []

    def second(output: str) -> bool:
        if "loss=" in output:
            status.append(main(words))
        return bool(status)

    end(words, tmp_path / "log", second, signal.SIGTERM).check(signal.SIGTERM)
    assert status == [2]
    assert "is in use by another run: process" in capsys.readouterr().err
