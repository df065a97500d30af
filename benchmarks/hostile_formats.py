"""Good files of the formats that others write, and their readers."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hostile_mutations import (
    SEED,
    Spoils,
    arrays,
    boxes,
    cells,
    chunks,
    columns,
    elements,
    entries,
    lines,
    none,
    records,
    settings,
)
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from planning.apps.workcell import read_limits
from planning.cli.app import compose_options
from planning.cli.data_index import Options as IndexWords
from tests.worldmodel.data.other_layouts import write_lerobot, write_rlds
from tests.worldmodel.data.own_names import FRONT, write_own_lerobot, written
from tests.worldmodel.data.test_arm_model import MJCF, franka_urdf
from worldmodel.data.arm_model import ArmModel
from worldmodel.data.episode import Episode
from worldmodel.data.image_folder import ImageFolder, ImageOptions
from worldmodel.data.pictures import read_picture
from worldmodel.data.readers.layouts import find_units, read_unit
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.video import VideoFrames, inspect_video
from worldmodel.data.writers.synthetic import draw_episode, random_states
from worldmodel.data.writers.video import write_video
from worldmodel.perception.anticipation.epic_kitchens import (
    class_order,
    known_actions,
    read_actions,
)
from worldmodel.perception.boxes.ava import read_boxes, read_classes, read_excluded
from worldmodel.perception.probes.labelled_videos import read_list
from worldmodel.perception.segmentation.videos import find_sequences, read_mask
from worldmodel.perception.surprise.pair_sets import read_inflevel, read_intphys, read_intphys2
from worldmodel.perception.video_answers import read_answers
from worldmodel.perception.video_questions import read_causalvqa, read_mvp


@dataclasses.dataclass(frozen=True)
class Format:
    """A format with its good file, its reader and its own mutations."""

    name: str
    folder: Path
    """Folder of the good file and what belongs to it."""
    file: str
    """Path of the file that is mutated, in the folder."""
    read: Callable[[Path], object]
    """Reads a folder with the file; returns a value that can be compared."""
    own: Callable[[Path], Spoils]
    """File -> names and functions that spoil it in place."""
    has_checksums: bool = False


def episodes_of(folder: Path) -> object:
    """Read all episodes of a data set and their first and last frames."""
    return list(read_all(folder, ReadOptions()))


def read_all(folder: Path, options: ReadOptions) -> Iterator[object]:
    """Yield number and reason of each reject, and number, states and frames of other episodes."""
    for unit in find_units(folder):
        for number, outcome in read_unit(unit, options):
            if not isinstance(outcome, Episode):
                yield number, outcome.reason
                continue
            frames = outcome.camera("left").frames.read(np.array([0, len(outcome.states_TS) - 1]))
            require_finite(outcome.states_TS, outcome.times_s)
            yield number, outcome.states_TS.tobytes(), frames.tobytes()


def require_finite(*arrays: np.ndarray) -> None:
    """Raise AssertionError for NaN or infinity, which a reader must not let pass."""
    for values in arrays:
        assert np.isfinite(values).all(), "not finite, and not refused"


def frames_of(folder: Path) -> object:
    """Read a video in full."""
    path = folder / "a.mp4"
    facts = inspect_video(path)
    times, _ = facts.played()
    frames = VideoFrames(path, facts.frames).read(np.arange(facts.frames))
    assert len(frames) == facts.frames
    return (len(times), frames.tobytes())


def tabled(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a CSV file with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def recordings(root: Path) -> list[Format]:
    """Write good data sets, videos and pictures."""
    states = [random_states(24, seed) for seed in range(2)]
    draw_episode(root / "droid", "e0", states[0], size=(36, 48), cameras=("left",))
    write_rlds(root / "rlds", states)
    write_lerobot(root / "lerobot", states, "v2.1")
    write_lerobot(root / "lerobot3", states, "v3.0")
    write_lerobot(root / "pictures", states, "v2.1", image_views=True)
    for name in ("video", "picture", "mask", "images/a"):
        (root / name).mkdir(parents=True)
    frames = np.random.default_rng(SEED).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    write_video(root / "video" / "a.mp4", frames)
    Image.fromarray(frames[0]).save(root / "picture" / "a.png")
    for name in ("a", "b", "c"):
        Image.fromarray(frames[1]).save(root / "images" / "a" / f"{name}.png")
    Image.fromarray(frames[0, :, :, 0] // 64, mode="L").save(root / "mask" / "a.png")

    def data_set(name: str, folder: str, file: object, own: Any) -> Format:
        return Format(name, root / folder, str(file), episodes_of, own)

    def found(folder: str, pattern: str) -> Path:
        return min((root / folder).rglob(pattern)).relative_to(root / folder)

    return [
        data_set("HDF5 (DROID)", "droid", found("droid", "trajectory.h5"), arrays),
        data_set("JSON (DROID metadata)", "droid", found("droid", "metadata_*.json"), entries),
        data_set("MP4 (DROID)", "droid", found("droid", "*.mp4"), boxes),
        data_set(
            "parquet (LeRobot rows)", "lerobot", found("lerobot", "episode_*.parquet"), columns
        ),
        data_set("parquet (LeRobot images)", "pictures", found("pictures", "*.parquet"), columns),
        data_set("JSONL (LeRobot v2.1 list)", "lerobot", "meta/episodes.jsonl", lines),
        data_set(
            "parquet (LeRobot v3.0 list)",
            "lerobot3",
            f"meta/episodes/{found('lerobot3/meta/episodes', '*.parquet')}",
            columns,
        ),
        data_set("JSON (LeRobot info)", "lerobot", "meta/info.json", entries),
        data_set("JSON (features.json)", "rlds", "features.json", entries),
        dataclasses.replace(
            data_set("TFRecord (RLDS)", "rlds", "droid-train.tfrecord-00000-of-00001", records),
            has_checksums=True,
        ),
        Format("MP4", root / "video", "a.mp4", frames_of, boxes),
        Format(
            "PNG", root / "picture", "a.png", lambda f: read_picture(f / "a.png").tobytes(), chunks
        ),
        Format(
            "PNG (masks)", root / "mask", "a.png", lambda f: len(read_mask(f / "a.png")), chunks
        ),
        Format("PNG (folder of images)", root / "images", "a/b.png", images_of, chunks),
    ]


def images_of(folder: Path) -> object:
    """Read the crops of a folder of images."""
    source = ImageFolder(folder, ImageOptions(size=16, workers=1))
    return len(source.batch(np.arange(len(source)))["frames"])


def settings_files(root: Path) -> list[Format]:
    """Write good files of settings, and models of arms."""
    for name in ("limits", "recipe", "arm"):
        (root / name).mkdir()
    for name, source in (("limits", "robot/twin.yaml"), ("recipe", "train/smoke.yaml")):
        shutil.copy(Path(__file__).parents[1] / "configs" / source, root / name / "a.yaml")
    (root / "arm" / "a.urdf").write_text(franka_urdf(), encoding="utf-8")
    (root / "arm" / "a.xml").write_text(MJCF, encoding="utf-8")
    write_own_lerobot(
        root / "own",
        [random_states(24, seed) for seed in range(2)],
        column=lambda states: (written(states), written(states)),
    )
    text = f"state: observation.state[0:6]\ngripper: none\nleft: {FRONT}\nrotation: euler_xyz\n"
    (root / "own" / "a.yaml").write_text(text, encoding="utf-8")

    def recipe_of(folder: Path) -> object:
        return str(compose_options("train", [f"recipe={folder}/a.yaml"]))

    def mapped(folder: Path) -> object:
        words = [f"root={folder}", f"map={folder}/a.yaml"]
        options = compose_options("data index", words)
        assert isinstance(options, IndexWords)
        return len(list(read_all(folder, ReadOptions(columns=options.map))))

    def poses(name: str, body: str, joints: int) -> Callable[[Path], object]:
        def read(folder: Path) -> object:
            places, turns = ArmModel(folder / name, body).poses(np.full((2, joints), 0.1))
            require_finite(places, turns)
            return len(places)

        return read

    return [
        Format(
            "YAML (limits)",
            root / "limits",
            "a.yaml",
            lambda f: str(read_limits(str(f / "a.yaml"))),
            settings,
        ),
        Format("YAML (recipe)", root / "recipe", "a.yaml", recipe_of, settings),
        Format("YAML (map of columns)", root / "own", "a.yaml", mapped, settings),
        Format("URDF", root / "arm", "a.urdf", poses("a.urdf", "flange", 7), elements),
        Format("MJCF", root / "arm", "a.xml", poses("a.xml", "tip", 2), elements),
    ]


def annotations(root: Path) -> list[Format]:
    """Write good annotations of labelled videos, pairs of videos and questions."""
    folder = root / "notes"
    (folder / "vid").mkdir(parents=True)
    frames = np.random.default_rng(SEED).integers(0, 256, (2, 21, 24, 32, 3), dtype=np.uint8)
    for i in range(4):
        write_video(folder / "vid" / f"{i}.mp4", frames[i % 2])
    _write_tables(folder)
    _write_scene(folder / "dev" / "O1" / "01", frames)
    for line in ("JPEGImages", "Annotations"):
        kind = "jpg" if line == "JPEGImages" else "png"
        (folder / line / "480p" / "dog").mkdir(parents=True)
        for number in range(3):
            image = Image.fromarray(frames[0, number, :, :, 0], mode="L")
            image.save(folder / line / "480p" / "dog" / f"{number:05d}.{kind}")

    def made(name: str, file: str, read: Callable[[Path], object], own: Any) -> Format:
        return Format(name, folder, file, read, own)

    def epic(f: Path) -> object:
        actions = read_actions(f / "epic.csv")
        return len(known_actions(actions, class_order(actions)))

    def ava(f: Path) -> object:
        return len(read_boxes(f / "ava.csv", read_classes(f / "ava.pbtxt")).keyframes)

    def sequences(f: Path) -> object:
        return len(find_sequences(f, f / "davis.txt", "480p")[0])

    return [
        made("CSV (EPIC-KITCHENS)", "epic.csv", epic, cells),
        made("CSV (AVA boxes)", "ava.csv", ava, cells),
        made("text (AVA classes)", "ava.pbtxt", ava, none),
        made("CSV (AVA excluded)", "out.csv", lambda f: len(read_excluded(f / "out.csv")), cells),
        made(
            "text (labelled files)",
            "list.txt",
            lambda f: len(read_list(f / "list.txt").items),
            cells,
        ),
        made(
            "CSV (labelled files)",
            "list.csv",
            lambda f: len(read_list(f / "list.csv").items),
            cells,
        ),
        made(
            "JSON (IntPhys)",
            "dev/O1/01/1/status.json",
            lambda f: len(read_intphys(f).pairs),
            entries,
        ),
        made(
            "PNG (IntPhys)",
            "dev/O1/01/1/scene/scene_003.png",
            lambda f: len(read_intphys(f).pairs),
            chunks,
        ),
        made(
            "CSV (InfLevel)",
            "pairs.csv",
            lambda f: len(read_inflevel(f, f / "pairs.csv").pairs),
            cells,
        ),
        made("CSV (IntPhys 2)", "metadata.csv", lambda f: len(read_intphys2(f).pairs), cells),
        made(
            "JSONL (MVPBench)",
            "mvp.jsonl",
            lambda f: len(read_mvp(f / "mvp.jsonl").questions),
            lines,
        ),
        made(
            "CSV (CausalVQA)",
            "causal.csv",
            lambda f: len(read_causalvqa(f / "causal.csv").questions),
            cells,
        ),
        made("JSONL (answers)", "said.jsonl", lambda f: len(read_answers(f / "said.jsonl")), lines),
        made("text (DAVIS)", "davis.txt", sequences, none),
    ]


def _write_tables(folder: Path) -> None:
    epic = {"video_id": "P01_01", "start_frame": 5, "stop_frame": 9}
    tabled(folder / "epic.csv", [epic | {"verb_class": i, "noun_class": 3} for i in range(4)])
    box = "0.050,0.100,0.450,0.900"
    texts = {
        "ava.csv": "".join(f"0,090{i},{box},12,{i}\n" for i in range(4)),
        "ava.pbtxt": 'item {\n name: "stand"\n id: 12\n}\nitem { name: "run" id: 17 }\n',
        "out.csv": "0,0901\n1,0902\n",
        "list.txt": "".join(f"vid/{i}.mp4 {i % 2}\n" for i in range(4)),
        "list.csv": "path,label\n" + "".join(f"vid/{i}.mp4,{i % 2}\n" for i in range(4)),
        "davis.txt": "dog\n",
        "said.jsonl": "".join(f'{{"id": "a_{i}", "answer": "A"}}\n' for i in range(3)),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    ends = {"vid1_end_priming_2": 3, "vid2_end_priming_2": 4}
    names = [{"vid1_path": f"vid/{i}.mp4", "vid2_path": f"vid/{i + 1}.mp4"} for i in range(3)]
    tabled(folder / "pairs.csv", [row | ends for row in names])
    kinds = ("1_Possible", "1_Impossible", "2_Possible", "2_Impossible")
    scenes = [
        {"file_name": f"vid/{i}.mp4", "SceneIndex": "7", "type": kind, "condition": "x", "env": "y"}
        for i, kind in enumerate(kinds)
    ]
    tabled(folder / "metadata.csv", scenes)
    mvp = {"video_path": "vid/0.mp4", "question": "which?", "candidates": ["left", "right"]}
    rows = [mvp | {"video_id": f"a_{i}", "answer": a} for i, a in ((1, "left"), (2, "right"))]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "mvp.jsonl").write_text(text, encoding="utf-8")
    causal = {"type": "t", "question": "which?", "difficulty": "d", "renamed_video": "v.mp4"}
    orders = {"choices1": "1. a|2. b", "correct1": 1, "choices2": "1. b|2. a", "correct2": 2}
    tabled(folder / "causal.csv", [{"qid": i} | causal | orders for i in range(3)])


def _write_scene(folder: Path, frames: np.ndarray) -> None:
    """Write IntPhys' four videos: 1 and 3 are equal up to a frame, and so are 2 and 4."""
    for i, is_possible in enumerate((False, True, True, False), start=1):
        shown = frames[0].copy() if i % 2 else 255 - frames[0]
        shown[9:] = frames[1, 9:] // i
        (folder / str(i) / "scene").mkdir(parents=True)
        for number, frame in enumerate(shown, start=1):
            Image.fromarray(frame).save(folder / str(i) / "scene" / f"scene_{number:03d}.png")
        text = json.dumps({"header": {"is_possible": is_possible}})
        (folder / str(i) / "status.json").write_text(text, encoding="utf-8")
