"""AVA's files, features of boxes, frame mAP, and `worldmodel probe boxes` on a made set."""

import json

import numpy as np
import pytest
import torch

from planning.cli.app import main
from worldmodel.checkpoints.io import save
from worldmodel.data.writers.video import write_video
from worldmodel.errors import CheckpointError, ConfigError, DataError
from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.perception.boxes.ava import read_boxes, read_classes, read_excluded
from worldmodel.perception.boxes.config import BoxOptions
from worldmodel.perception.boxes.features import pool_boxes
from worldmodel.perception.boxes.run import multi_label_loss
from worldmodel.perception.boxes.scores import Detections, average_precision, frame_map, overlaps

ENCODER = EncoderConfig(image_size=(64, 64), embed_dim=24, depth=1, num_heads=2)
ACTIONS = """item {
  name: "stand"
  id: 12
}
item { name: "carry/hold (an object)"  id: 17 }
label {
  name: "answer phone"
  label_id: 15
  label_type: OBJECT_MANIPULATION
}
"""
LEFT, RIGHT = "0.050,0.100,0.450,0.900", "0.550,0.100,0.950,0.900"
COLOUR = {12: (200, 30, 30), 17: (30, 200, 30), 15: (30, 30, 200)}


def make_movies(root, count, first, draw):
    """Write videos of two people in colour; a person's colour is the sum of its actions'."""
    rows = []
    for number in range(first, first + count):
        name, frames = f"-movie_{number}", np.full((32, 48, 96, 3), 90.0)
        for box, columns in ((LEFT, slice(5, 43)), (RIGHT, slice(53, 91))):
            actions = [a for a in COLOUR if draw.random() < 0.5] or [12]
            frames[:, 5:43, columns] = np.sum([COLOUR[a] for a in actions], axis=0)
            for action in actions:
                rows += [f"{name},{t:04d},{box},{action},7" for t in (901, 902)]
        noisy = frames + draw.normal(0, 10, frames.shape)
        write_video(root / f"{name}.mp4", noisy.clip(0, 255).astype(np.uint8), header_fps=10)
    return rows


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
    root, draw = tmp_path_factory.mktemp("ava"), np.random.default_rng(0)
    train = make_movies(root, 10, 0, draw)
    val = make_movies(root, 5, 10, draw)
    (root / "-broken.mp4").write_bytes(b"\0" * 60)
    wrong = [f"-gone,0902,{LEFT},12,1", f"-broken,0902,{LEFT},12,1", f"-movie_0,0950,{LEFT},12,1"]
    lines = ["-movie_0,0901,0.5,0.1,0.4,0.9,12,1", f"-movie_0,0901,{LEFT},walk,1", "-movie_0,901"]
    (root / "train.csv").write_text("\n".join([*train, *wrong, *lines, f"-x,0901,{LEFT},80,1"]))
    (root / "val.csv").write_text("\n".join([*val, *wrong]))
    (root / "excluded.csv").write_text("-movie_10,0901\n")
    (root / "actions.pbtxt").write_text(ACTIONS)
    torch.manual_seed(0)
    save(root / "encoder.safetensors", VideoEncoder.of(VisionTransformer(ENCODER)))
    return root


def words(root, out, *more):
    files = [f"{n}={root}/{n}.csv" for n in ("train", "val", "excluded")]
    files += [f"actions={root}/actions.pbtxt", f"videos={root}", f"out={root / out}"]
    clips = ["num_frames=2", "frame_step=1", "levels=last", "start_s=900", "device=cpu"]
    encoder = [f"encoder={root}/encoder.safetensors", "lr=0.02", "batch_size=8"]
    return ["probe", "boxes", *files, *clips, *encoder, *more]


@pytest.fixture(scope="module")
def run(movies):
    assert main(words(movies, "run")) == 0
    return json.loads((movies / "run" / "summary.json").read_text())


def test_a_head_learns_the_actions_and_names_what_it_cannot_read(run):
    assert run["mean_average_precision"] > 0.95
    assert set(run["average_precision"]) == {"stand", "carry/hold (an object)", "answer phone"}
    assert (run["keyframes"], run["boxes"], run["excluded"]) == (9, 18, 1)
    assert run["trained_on_boxes"] == 40
    train, val = run["rejected"]["train"], run["rejected"]["val"]
    assert set(val) == {"-gone 902 s", "-broken 902 s", "-movie_0 950 s"}
    assert len(train) == 6
    reasons = " ".join(train.values())
    for part in (
        "order: left, top",
        "action is 'walk'",
        "it has 2 fields",
        "there is no",
        "32 frames",
    ):
        assert part in reasons


def test_a_second_run_takes_what_is_there_and_a_saved_head_scores_the_same(run, movies, capsys):
    assert main(words(movies, "run")) == 0
    assert json.loads((movies / "run" / "summary.json").read_text()) == run
    given = ["train=", f"probe={movies}/run"]
    assert main(words(movies, "judged", *given)) == 0
    judged = json.loads((movies / "judged" / "summary.json").read_text())
    assert judged["average_precision"] == pytest.approx(run["average_precision"])
    assert "frame mAP" in capsys.readouterr().out


def test_untrained_features_of_the_head_are_near_chance(run, movies):
    assert main(words(movies, "short", "epochs=1", "lr=1e-7")) == 0
    short = json.loads((movies / "short" / "summary.json").read_text())
    assert short["mean_average_precision"] < run["mean_average_precision"] - 0.1


def test_detected_boxes_are_judged_by_their_overlap(run, movies):
    rows = (movies / "val.csv").read_text().splitlines()
    near = [row.replace("0.050,0.100", "0.080,0.150").rsplit(",", 2)[0] for row in rows]
    rows = [f"{row},,0.95" for row in dict.fromkeys(near)]
    rows += [f"-movie_11,0901,0.4,0.0,0.6,0.1,,{score}" for score in (0.9, 0.1)]
    (movies / "detections.csv").write_text("\n".join([*rows, f"-movie_11,0901,{LEFT},"]))
    more = ["train=", f"probe={movies}/run", f"detections={movies}/detections.csv"]
    assert main(words(movies, "detected", *more)) == 0
    found = json.loads((movies / "detected" / "summary.json").read_text())
    assert 0.5 < found["mean_average_precision"] <= run["mean_average_precision"]
    assert "has no score" in next(iter(found["rejected"]["detections"].values()))


def test_files_of_ava(tmp_path):
    path = tmp_path / "list"
    path.write_text(ACTIONS)
    classes = read_classes(path)
    assert classes == {12: "stand", 17: "carry/hold (an object)", 15: "answer phone"}
    path.write_text(
        f"a,0902,{LEFT},12,3\na,0902,{LEFT},17,3\na,0902,{RIGHT},80,4\na,903,{LEFT},,\n"
    )
    found = read_boxes(path, classes)
    assert [k.name for k in found.keyframes] == ["a 902 s", "a 903 s"]
    assert found.keyframes[0].actions == (frozenset({12, 17}),)
    assert found.keyframes[1].actions == (frozenset(),)
    assert (found.ignored, found.rejected) == (1, {})
    for text, reader in (("", read_classes), (ACTIONS * 2, read_classes), ("a,x", read_excluded)):
        path.write_text(text)
        with pytest.raises(DataError):
            reader(path)
    path.write_text(f"a,0902,{LEFT},12.5,3\na,1000000.1,{LEFT},12,3\na,1000000.2,{LEFT},12,3\n")
    found = read_boxes(path, classes)
    assert [k.name for k in found.keyframes] == ["a 1000000.1 s", "a 1000000.2 s"]
    assert "action is '12.5'" in next(iter(found.rejected.values()))
    path.write_text("a,nan,0,0,1,1,12,1\n")
    with pytest.raises(DataError, match="time is 'nan'"):
        read_boxes(path, classes)


def test_frame_map_follows_the_published_rules():
    whole, half = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.5)
    assert overlaps([whole], [half]).tolist() == [[0.5]]
    far = (0.8, 0.8, 0.9, 0.9)
    truth = {"a": ([whole], [frozenset({1})]), "b": ([whole], [frozenset({1, 2})])}
    found = {
        "a": Detections([half, far], np.array([[0.9, 0.0, 0.0], [0.8, 0.0, 0.0]])),
        "b": Detections([whole, half], np.array([[0.7, 0.5, 0.0], [0.6, 0.9, 0.0]])),
    }
    precisions = frame_map(truth, found, [1, 2, 3])
    assert precisions == {1: pytest.approx(0.5 + 0.5 * 2 / 3), 2: 1.0}  # 3 is not annotated
    assert frame_map(truth, {}, [1, 2]) == {1: 0.0, 2: 0.0}
    hits = np.array([True, False, True])
    assert average_precision(np.array([0.9, 0.8, 0.7]), hits, 4) == pytest.approx(
        0.25 * (1 + 2 / 3)
    )


def test_features_come_from_inside_the_box():
    tokens = torch.zeros(2, 4, 4, 3)
    tokens[:, 0, 0, 0] = 1.0
    tokens[:, 3, 2:, 1] = 2.0
    boxes = [(0.0, 0.0, 0.25, 0.25), (0.5, 0.5, 1.0, 1.0), (0.3, 0.3, 0.45, 0.6)]
    found = pool_boxes(tokens.flatten(0, 2), (4, 4), boxes)
    assert found[0, 0] == pytest.approx(1.0)
    assert found[1, 1] == pytest.approx(2.0)
    assert found[0, 1] == found[1, 0] == 0
    assert found[2].abs().max() < 0.6


def test_the_loss_counts_each_class_of_a_box():
    logits = torch.tensor([[0.0, 20.0], [0.0, -20.0]])
    labels = torch.tensor([[True, True], [False, False]])
    assert float(multi_label_loss(logits, labels)) == pytest.approx(np.log(2), abs=1e-6)


def test_wrong_options_and_heads_are_named(run, movies, tmp_path):
    files = {"val": "v", "actions": "a", "videos": "f"}
    with pytest.raises(ConfigError, match="either train=FILE"):
        BoxOptions(**files)
    with pytest.raises(ConfigError, match="videos= is empty"):
        BoxOptions(**{**files, "videos": "", "train": "t"})
    from worldmodel.perception.boxes.run import load_head

    with pytest.raises(CheckpointError, match="not a head of"):
        load_head(movies / "encoder.safetensors", [12])
    with pytest.raises(CheckpointError, match="other classes"):
        load_head(movies / "run", [12])
