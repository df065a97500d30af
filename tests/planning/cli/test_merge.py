"""Commands in shards: merged, the result is that of one run; missing shards are named."""

import json
import shutil

import h5py
import numpy as np
import pytest
from PIL import Image

from planning.cli.app import main
from worldmodel.data.writers.synthetic import write_dataset
from worldmodel.shards import shards_folder

SWEEP = ["-m", "shard=range(3)", "shards=3"]


def files(folder):
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def run(*words):
    assert main([*map(str, words)]) == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Seven episodes, one of them damaged and one of another frame size."""
    root = tmp_path_factory.mktemp("merge") / "data"
    write_dataset(root, episodes=6, steps=75, size=(48, 64))
    write_dataset(root / "odd", episodes=1, steps=75, size=(64, 48), seed=9)
    next(iter(sorted(root.rglob("trajectory.h5")))).write_bytes(b"torn")
    return root


@pytest.fixture(scope="module")
def index(data):
    out = data.parent / "index"
    run("data", "index", f"root={data}", f"out={out}", "workers=1")
    return out


def test_a_merged_index_is_that_of_one_run(data, index, tmp_path, capsys):
    out = tmp_path / "index"
    words = ["data", "index", f"root={data}", f"out={out}", "workers=1"]
    run(*words, *SWEEP)
    assert not out.exists()
    run("merge", f"out={out}")
    assert set(files(out)) == set(files(index))
    for name in ("manifest.jsonl", "rejects.jsonl", "summary.json", ".seen.jsonl"):
        assert (out / name).read_bytes() == (index / name).read_bytes(), name
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["accepted"], summary["reasons"]["frame_size"]) == (5, 1)
    capsys.readouterr()
    run(*words)  # the merged index is one that a run can go on with
    assert json.loads(capsys.readouterr().out)["inspected"] == 0


def test_an_index_changes_between_its_shards(data, tmp_path, capsys):
    root, out = tmp_path / "data", tmp_path / "index"
    shutil.copytree(data, root)
    words = ["data", "index", f"root={root}", f"out={out}", "workers=1", "shards=2"]
    run(*words, "shard=0")
    write_dataset(root / "more", episodes=1, steps=75, size=(48, 64), seed=5)
    run(*words, "shard=1")
    assert main(["merge", f"out={out}"]) == 2
    assert "not of one run (num_units: 7, 8" in capsys.readouterr().err
    run(*words, "shard=0")  # only what is new is inspected
    run("merge", f"out={out}")


@pytest.mark.parametrize("what", ["frames", "features"])
def test_merged_frames_are_those_of_one_run(index, tmp_path, capsys, what):
    one, out = tmp_path / "one", tmp_path / "out"
    words = ["data", "prepare", f"index={index}", "image_size=32", "episodes_per_shard=2"]
    if what == "features":
        words += ["what=features", "encoder=random:tiny"]
    run(*words, f"out={one}")
    run(*words, f"out={out}", "-m", "shard=0,2", "shards=4")
    assert main(["merge", f"out={out}"]) == 2
    assert "of 4 shards are missing: 1, 3" in capsys.readouterr().err
    run(*words, f"out={out}", "-m", "shard=1,3", "shards=4")  # the last one is empty
    run("merge", f"out={out}")
    assert set(files(out)) == set(files(one))
    for name, file in files(out).items():
        assert file.read_bytes() == files(one)[name].read_bytes(), name
    run("merge", f"out={out}")  # again: nothing changes
    shard = shards_folder(out) / "1-of-4" / "shard-000001.safetensors"
    shard.unlink()
    assert main(["merge", f"out={out}"]) == 2
    assert "shard-000001.safetensors is missing or damaged" in capsys.readouterr().err
    run(*words, f"out={out}", "shard=1", "shards=4")
    run("merge", f"out={out}")


def test_shards_of_another_plan_are_refused(index, tmp_path, capsys):
    words = ["data", "prepare", f"index={index}", "image_size=32", f"out={tmp_path}/out"]
    run(*words, "shard=0", "shards=2")
    assert main([*words, "shard=0", "shards=2", "fps=5"]) == 2
    assert "holds results of something else (options.fps: 4.0, 5" in capsys.readouterr().err


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "deeper").mkdir()
    draw = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png", "deeper/a.png", "deeper/d.png"):
        Image.fromarray(draw.integers(256, size=(40, 48, 3), dtype=np.uint8)).save(folder / name)
    (folder / "torn.jpg").write_bytes(b"no picture")
    return folder


def arrays(path):
    """Arrays and attributes of an HDF5 file by name."""
    found = {}

    def visit(name, item):
        found[name] = dict(item.attrs)
        if isinstance(item, h5py.Dataset):
            found[name] = (item.dtype, item.chunks, item[()].tobytes())

    with h5py.File(path) as file:
        file.visititems(visit)
        return found, dict(file.attrs)


def test_merged_features_are_those_of_one_run(pictures, tmp_path, capsys):
    one, out = tmp_path / "one.h5", tmp_path / "out.h5"
    words = ["features", f"videos={pictures}", "model=default", "device=cpu"]
    run(*words, f"out={one}")
    run(*words, f"out={out}", *SWEEP)
    assert not out.exists()
    run("merge", f"out={out}")
    assert arrays(out) == arrays(one)
    a, b = (json.loads(p.with_name(f"{p.name}.json").read_text()) for p in (one, out))
    same = ("videos", "clips", "skipped", "rejected", "model", "fps", "num_frames", "written_by")
    assert [a[key] for key in same] == [b[key] for key in same]
    assert set(a["rejected"]) == {"torn.jpg"}
    capsys.readouterr()
    run(*words, f"out={out}")  # finds everything done
    assert "0 clips of 5 videos (5 done before)" in capsys.readouterr().out
    with h5py.File(shards_folder(out) / "0-of-3" / "features.h5", "a") as file:
        del file["a.png"]
    assert main(["merge", f"out={out}"]) == 2
    assert "0-of-3/features.h5 holds" in capsys.readouterr().err
    assert arrays(out) == arrays(one)


EVAL = ["eval", "task=reach", "episodes=3", "workers=1", "sub_goals=one", "pictures=false"]
EVAL += ["samples=8", "iterations=1", "elites=2", "stretch=1"]


def episodes(folder):
    return (folder / "episodes.jsonl").read_text()


def test_a_merged_evaluation_has_the_episodes_and_counts_of_one_run(tmp_path, capsys):
    one, out = tmp_path / "one", tmp_path / "out"
    run(*EVAL, f"out={one}")
    run(*EVAL, f"out={out}", "-m", "shard=range(2)", "shards=2")
    played = shards_folder(out) / "0-of-2" / "episodes"
    assert len(list(played.iterdir())) == 2 * 4  # planner and three baselines
    assert main(["merge", f"out={out}"]) == 0
    assert "planner" in capsys.readouterr().out
    assert episodes(out) == episodes(one)
    timed = ("seconds_per_action", "time_shares")
    a, b = (json.loads((folder / "summary.json").read_text()) for folder in (one, out))
    assert {k: v for k, v in a.items() if k not in timed} == {
        k: v for k, v in b.items() if k not in timed
    }
    assert (out / "report.html").is_file()
    # A shard that was stopped plays only what it has not kept, or what is torn.
    lost, torn = sorted(played.iterdir())[:2]
    lost.unlink()
    torn.write_bytes(torn.read_bytes()[:200])
    assert main(["merge", f"out={out}"]) == 2
    assert f"{lost} is not a complete episode" in capsys.readouterr().err
    run(*EVAL, f"out={out}", "shard=0", "shards=2")
    printed = capsys.readouterr().out
    assert f"{torn} is not a complete episode" in printed  # logged, after the sweep, on stdout
    assert json.loads(printed[printed.index("{\n") :])["played"] == 2
    run("merge", f"out={out}")
    assert episodes(out) == episodes(one)


def test_shard_options_without_effect_are_refused(capsys):
    assert main([*EVAL, "shards=2"]) == 2
    assert "shards=2 has no effect without shard=" in capsys.readouterr().err
    assert main([*EVAL, "shard=2", "shards=2"]) == 2
    assert "shard=2 is out of range with shards=2. Allowed: 0 to 1" in capsys.readouterr().err


def test_a_sweep_over_shards_varies_nothing_else(capsys):
    assert main([*EVAL, "-m", "shard=range(2)", "shards=2", "seed=0,1"]) == 2
    assert "varies nothing else (seed)" in capsys.readouterr().err
    assert main([*EVAL, "-m", "shard=range(0)", "shards=2"]) == 2
    assert "shard=range(0) is not allowed" in capsys.readouterr().err
    assert main([*EVAL, "-m", "shard=range(x)", "shards=2"]) == 2
    assert "shard=range(x) is not allowed" in capsys.readouterr().err


def test_a_merge_of_nothing_says_how_shards_are_made(tmp_path, capsys):
    assert main(["merge", f"out={tmp_path}/none"]) == 2
    assert "holds no shard" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
