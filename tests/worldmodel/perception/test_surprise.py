"""Surprise: golden arrays, windows, metrics, and the sets of pairs as published."""

import copy
import csv
import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from worldmodel.data.writers.video import write_video
from worldmodel.errors import ConfigError, DataError, ShapeError
from worldmodel.models.config import EncoderConfig, MaskedPredictorConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.perception.surprise.measure import (
    SurpriseConfig,
    SurpriseModel,
    normalise_pixels,
    predict_rest,
    split_ids,
    video_surprises,
)
from worldmodel.perception.surprise.pair_metrics import (
    areas,
    auroc_interval,
    pair_metrics,
    roc_curve,
    video_scores,
)
from worldmodel.perception.surprise.pair_sets import (
    Pair,
    PairSet,
    read_grasp,
    read_inflevel,
    read_intphys,
    read_intphys2,
)
from worldmodel.perception.surprise.pair_surprise import PairOptions, measure_pairs
from worldmodel.perception.surprise.pair_videos import Video, breaking_point, match_scene

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "perception"
SHORT = SurpriseConfig(num_frames=8, contexts=(2, 4))


@pytest.mark.parametrize("name", ["scene", "surprises", "window", "intphys2", "metrics"])
def test_golden(name, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    golden = importlib.import_module("agreement_golden").Golden(GOLDEN, "golden_perception")
    family = getattr(importlib.import_module("agreement_surprise"), name)
    with torch.no_grad():
        for array, found, wanted in family(golden):
            torch.testing.assert_close(
                found, wanted, atol=2e-5, rtol=0, check_dtype=False, msg=lambda m, a=array: a + m
            )


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"embed_dim": 24, "depth": 1, "num_heads": 2}
    config = EncoderConfig(image_size=(32, 48), num_frames=8, **sizes)
    predictor = MaskedPredictorConfig(
        grid=(4, 9, 9), encoder_dim=24, out_dim=24, num_mask_tokens=2, **sizes
    )
    networks = (VisionTransformer(config), VisionTransformer(config), MaskedPredictor(predictor))
    return SurpriseModel(*(part.eval() for part in networks))


def video(frames=14, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (frames, 32, 48, 3), dtype=torch.uint8, generator=generator)


def test_windows_do_not_depend_on_the_batch(model):
    one, many = (video_surprises(model, video(), SHORT, size) for size in (1, 8))
    assert [row.shape for row in one] == [(4,), (4,)]
    torch.testing.assert_close(torch.stack(one), torch.stack(many), atol=1e-6, rtol=0)


def test_growing_start_puts_shorter_contexts_first(model):
    config = SurpriseConfig(num_frames=8, contexts=(2, 6), growing_start=True)
    short, long = video_surprises(model, video(), config)
    assert (len(short), len(long)) == (4, 6)
    torch.testing.assert_close(long[0], short[0])


def test_the_prediction_does_not_see_the_future(model):
    changed = video(8)
    changed[4:] = 0
    with torch.no_grad():
        first, second = (
            predict_rest(model, x, model.target_encoder(x), 4, SHORT)
            for x in (
                normalise_pixels(v.permute(3, 0, 1, 2)[None], torch.zeros(()))
                for v in (video(8), changed)
            )
        )
    torch.testing.assert_close(first.predicted, second.predicted)
    assert not torch.allclose(first.targets, second.targets)


def test_released_masks_count_in_14_by_14_patches():
    context, target = split_ids(2, (2, 16, 16), 2, as_released=True)
    assert (len(context), int(target[-1])) == (196, 391)
    with pytest.raises(ConfigError, match="14 x 14"):
        split_ids(2, (2, 3, 3), 2, as_released=True)


def test_wrong_input_is_named(model):
    with pytest.raises(ConfigError, match="below num_frames=8"):
        SurpriseConfig(num_frames=8, contexts=(8,))
    with pytest.raises(ConfigError, match="multiple of 2"):
        video_surprises(model, video(), SurpriseConfig(num_frames=8, contexts=(3,)))
    with pytest.raises(ShapeError, match="has 6 frames, a window 8"):
        video_surprises(model, video(6), SHORT)
    with pytest.raises(ShapeError, match="float32"):
        video_surprises(model, video().float(), SHORT)
    other = VisionTransformer(EncoderConfig(embed_dim=48, depth=1, num_heads=2))
    with pytest.raises(ConfigError, match="24 and 48"):
        SurpriseModel(model.encoder, other, model.predictor)


def test_few_pairs_ties_and_chance():
    rows = [torch.tensor([x, x]) for x in (0.1, 0.2, 0.3)]
    tied = pair_metrics(rows, rows)
    assert (tied.relative_mean, tied.auroc_max) == (0, pytest.approx(0.5))
    assert tied.auroc_max_ci95 == pytest.approx((0.5, 0.5), abs=0.3)
    apart = pair_metrics(rows, [row + 1 for row in rows])
    assert (apart.relative_mean, apart.auroc_mean, apart.auprc_max) == (100, 1, 1)
    assert apart.best_absolute_max == 100
    with pytest.raises(ShapeError, match="3 possible and 2 impossible"):
        pair_metrics(rows, rows[:2])
    _, false, true = roc_curve(np.array([0.0]), np.array([1.0]))
    assert (false.tolist(), true.tolist()) == ([0, 0, 1], [0, 1, 1])


def test_published_padding_lowers_the_mean_of_a_short_video():
    rows = [torch.ones(2), torch.ones(4)]
    assert video_scores(rows, "mean").tolist() == [1, 1]
    assert video_scores(rows, "mean", published_padding=True).tolist() == [0.5, 1]


def test_the_released_rule_misses_a_change_of_place():
    first = torch.zeros(3, 4, 4, 3, dtype=torch.uint8)
    first[:, 0, 0] = 9
    second = first.clone()
    second[1] = second[1].roll(1, 0)
    assert breaking_point(first, second) == 1
    assert breaking_point(first, second, as_released=True) == 3
    with pytest.raises(DataError, match="needed: 4"):
        match_scene([first, second])


def write(path, frames=14, seed=0):
    write_video(path, video(frames, seed).numpy())


def table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def scene(folder, cuts, labels):
    """Write four videos; video i differs from video 1 from frame cuts[i] on."""
    for i, (cut, label) in enumerate(zip(cuts, labels, strict=True), start=1):
        frames = video(21)
        frames[cut:] = video(21, seed=i)[cut:]
        (folder / str(i) / "scene").mkdir(parents=True)
        for number, frame in enumerate(frames.numpy(), start=1):
            Image.fromarray(frame).save(folder / str(i) / "scene" / f"scene_{number:03d}.png")
        status = json.dumps({"header": {"is_possible": label}})
        (folder / str(i) / "status.json").write_text(status, encoding="utf-8")


def test_intphys_scenes_are_matched_and_a_bad_one_is_named(tmp_path):
    scene(tmp_path / "dev" / "O1" / "01", (21, 0, 9, 0), (False, True, True, False))
    scene(tmp_path / "dev" / "O2" / "01", (21, 0, 9, 0), (True, True, True, False))
    found = read_intphys(tmp_path)
    assert [(p.name, p.group) for p in found.pairs] == [("O1/01/1", "O1"), ("O1/01/2", "O1")]
    parts = [(p.possible.path.parts[-2], p.impossible.path.parts[-2]) for p in found.pairs]
    assert parts == [("3", "1"), ("2", "4")]
    assert "equally possible" in found.rejected["dev/O2/01"]
    assert len(found.pairs[0].possible.frames(2)) == 10  # of 21 frames, as published
    with pytest.raises(DataError, match="no pair"):
        read_intphys(tmp_path / "dev")


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("status.json", lambda path: path.write_text('{"header": null}'), "is_possible is None"),
        ("status.json", lambda path: path.write_text("[]"), "is_possible is None"),
        ("status.json", lambda path: path.write_bytes(b"\xff"), "status_unreadable"),
        (
            "scene/scene_007.png",
            lambda path: Image.new("RGB", (9, 9)).save(path),
            "pictures of several sizes",
        ),
    ],
)
def test_an_odd_scene_stops_no_other(file, change, reason, tmp_path):
    for name in ("01", "02"):
        scene(tmp_path / "dev" / "O1" / name, (21, 0, 9, 0), (False, True, True, False))
    change(tmp_path / "dev" / "O1" / "01" / "3" / file)
    found = read_intphys(tmp_path)
    assert {pair.name for pair in found.pairs} == {"O1/02/1", "O1/02/2"}
    assert reason in found.rejected["dev/O1/01"]


def test_grasp_pairs_need_both_files(tmp_path):
    for name in ("P_Gravity/0", "IP_Gravity/0", "P_Gravity/1", "IP_Gravity/2"):
        write(tmp_path / "level2" / f"{name}.mp4")
    found = read_grasp(tmp_path)
    assert [(p.name, p.group) for p in found.pairs] == [("Gravity/0", "Gravity")]
    assert sorted(found.rejected) == ["level2/P_Gravity/1.mp4", "level2/P_Gravity/2.mp4"]


def test_grasp_takes_an_extension_in_capitals(tmp_path):
    for kind in ("P", "IP"):
        write(tmp_path / "level2" / f"{kind}_Gravity" / "0.mp4")
        folder = tmp_path / "level2" / f"{kind}_Gravity"
        (folder / "0.mp4").rename(folder / "0.MP4")
        (folder / "notes.txt").write_text("x")
    assert [p.name for p in read_grasp(tmp_path).pairs] == ["Gravity/0"]


def test_inflevel_cuts_the_longer_video_at_its_start(tmp_path):
    write(tmp_path / "gravity" / "a.mp4", 14)
    write(tmp_path / "gravity" / "b.mp4", 16)
    row = {"vid1_path": "gravity/a.mp4", "vid2_path": "gravity/b.mp4"}
    ends = [{"vid1_end_priming_2": a, "vid2_end_priming_2": b} for a, b in ((3, 4), (3, ""))]
    table(tmp_path / "pairs.csv", [row | end for end in ends])
    found = read_inflevel(tmp_path, tmp_path / "pairs.csv")
    (pair,) = found.pairs
    assert (pair.group, pair.possible.first, pair.impossible.first) == ("gravity", 4, 6)
    assert len(pair.possible.frames()) == len(pair.impossible.frames()) == 10
    assert "not a number" in found.rejected["row 3"]
    same = {"vid2_path": "gravity/a.mp4", "vid1_end_priming_2": 3, "vid2_end_priming_2": 3}
    table(tmp_path / "odd.csv", [row | ends[0], row | ends[0], row | same])
    found = read_inflevel(tmp_path, tmp_path / "odd.csv")
    assert len(found.pairs) == 1
    assert found.rejected["row 3"] == "repeats row 2"
    assert found.rejected["row 4"].startswith("both videos are")
    table(tmp_path / "bad.csv", [{"vid1_path": "x"}])
    with pytest.raises(DataError, match="no column vid2_path"):
        read_inflevel(tmp_path, tmp_path / "bad.csv")


def intphys2(root):
    rows = [
        {
            "file_name": f"{scene}_{kind}.mp4",
            "SceneIndex": scene,
            "type": kind,
            "condition": "solidity",
            "env": env,
            "game_name": "RotatingCup",
        }
        for scene, env in (("7", "BasicLevel_0"), ("8", "Egypt_0"))
        for kind in ("1_Possible", "2_Impossible", "1_Impossible", "2_Possible")
    ]
    for row in rows[:-1]:
        write(root / row["file_name"], seed=len(row["file_name"]) + int(row["SceneIndex"]))
    table(root / "metadata.csv", rows)
    return read_intphys2(root)


def test_intphys2_rows_become_pairs(tmp_path):
    found = intphys2(tmp_path)
    assert [p.name for p in found.pairs] == ["7/1", "7/2", "8/1"]
    assert found.pairs[0].tags == {"difficulty": "easy", "camera": "fixed"}
    assert found.pairs[2].tags["difficulty"] == "hard"
    assert list(found.rejected) == ["scene 8 pair 2"]


def test_intphys2_pairs_of_one_file_or_two_conditions_are_named(tmp_path):
    intphys2(tmp_path)
    with (tmp_path / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows[0]["condition"] = "permanence"
    rows[1]["file_name"] = rows[3]["file_name"]
    table(tmp_path / "metadata.csv", rows)
    found = read_intphys2(tmp_path)
    assert [p.name for p in found.pairs] == ["8/1"]
    assert "conditions permanence and solidity" in found.rejected["scene 7 pair 1"]
    assert found.rejected["scene 7 pair 2"].startswith("both videos are")


def unusable(model):
    """Return the networks with a predictor that must not be called."""
    predictor = copy.deepcopy(model.predictor)
    predictor.forward = None
    return replace(model, predictor=predictor)


def test_a_set_is_measured_and_a_damaged_video_costs_its_pair(model, tmp_path):
    found = intphys2(tmp_path)
    found.pairs[1].possible.path.write_bytes(b"no video")
    options = PairOptions(step=1, transform="squeeze")
    keep = tmp_path / "measured.jsonl"
    measured = measure_pairs(model, found, SHORT, options, (32, 48), keep)
    assert len(keep.read_text().splitlines()) == 1 + 2
    again = measure_pairs(unusable(model), found, SHORT, options, (32, 48), keep)
    assert again.metrics() == measured.metrics()
    assert [p.pair.name for p in measured.pairs] == ["7/1", "8/1"]
    assert sorted(measured.rejected) == ["7/2", "scene 8 pair 2"]
    for context in (None, 0):
        scores = measured.metrics(context)
        subsets = {"difficulty easy": 1, "camera fixed": 2, "difficulty hard": 1}
        counts = {name: s.num_pairs for name, s in scores.items()}
        assert counts == {"all": 2, "solidity": 2} | subsets
    late = Video(found.pairs[0].possible.path, first=99)
    broken = PairSet([Pair("late", late, late, "x")], {"y": "z"})
    with pytest.raises(DataError, match="none of 2 pairs"):
        measure_pairs(model, broken, SHORT, options, (32, 48))


def test_the_interval_of_an_area_covers_it_and_narrows_with_more_pairs():
    generator = np.random.default_rng(0)
    widths = []
    for pairs in (20, 500):
        good = generator.normal(size=pairs)
        bad = good + generator.normal(1, 1, size=pairs)
        low, high = auroc_interval(good, bad)
        assert low < areas(good, bad)[0] < high
        assert (low, high) == auroc_interval(good, bad)
        widths.append(high - low)
    assert widths[1] < widths[0] / 3
