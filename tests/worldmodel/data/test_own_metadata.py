"""Indices and prepared data of any origin are checked when they are opened."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from worldmodel.data.dataset import open_row
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.prepare import PrepareOptions, prepare
from worldmodel.data.prepared import PreparedClips
from worldmodel.data.transforms import Preprocess
from worldmodel.data.writers.synthetic import write_dataset
from worldmodel.errors import DataError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    write_dataset(root / "data", episodes=2, steps=20, size=(16, 32))
    build_index(root / "data", root / "index", workers=1)
    options = PrepareOptions(image_size=16, codec="jpeg")
    prepare(open_manifest(root / "index"), root / "out", options, Preprocess("droid", (16, 16)))
    return root


def change_row(**values):
    def change(text):
        first, rest = text.split("\n", 1)
        return json.dumps({**json.loads(first), **values}) + "\n" + rest

    return change


MANIFESTS = {
    "torn": lambda text: text[: len(text) * 2 // 3],
    "torn between lines": lambda text: text[: text.index("\n") + 1],
    "no JSON": lambda text: "version https://git-lfs\n" + text,
    "a list": lambda text: "[]\n" + text,
    "nested": lambda text: "[" * 100_000 + "\n",
    "path that leads upwards": change_row(path="../../etc"),
    "absolute path": change_row(path="/etc"),
    "number as path": change_row(path=3),
    "steps in words": change_row(steps="20"),
    "negative steps": change_row(steps=-1),
    "absurd steps": change_row(steps=10**12),
    "negative record": change_row(record=-1),
    "no camera": change_row(camera=None),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_wrong_line_of_a_manifest_is_one_error_that_names_it(made, tmp_path, name):
    shutil.copytree(made / "index", tmp_path / "index")
    path = tmp_path / "index" / "manifest.jsonl"
    path.write_text(MANIFESTS[name](path.read_text()))
    with pytest.raises(DataError, match=r"manifest\.jsonl"):
        open_manifest(tmp_path / "index")


def test_an_episode_with_fewer_steps_than_its_row_is_an_error(made, tmp_path):
    shutil.copytree(made / "index", tmp_path / "index")
    path = tmp_path / "index" / "manifest.jsonl"
    path.write_text(change_row(steps=21)(path.read_text()))
    manifest = open_manifest(tmp_path / "index")
    assert len(open_row(manifest, manifest.rows[1])) == 20
    with pytest.raises(DataError, match="20 steps; the index says 21"):
        open_row(manifest, manifest.rows[0])


SUMMARIES = ["", "[]", "{}", '{"root": 3}', "[" * 100_000, '{"root": "/", "accepted": -1}']


@pytest.mark.parametrize("text", SUMMARIES)
def test_a_wrong_summary_is_one_error_that_names_it(made, tmp_path, text):
    shutil.copytree(made / "index", tmp_path / "index")
    (tmp_path / "index" / "summary.json").write_text(text)
    with pytest.raises(DataError, match=r"summary\.json"):
        open_manifest(tmp_path / "index")


def test_a_wrong_store_of_results_is_made_anew(made, tmp_path):
    out = tmp_path / "index"
    shutil.copytree(made / "index", out)
    assert build_index(made / "data", out, workers=1)["inspected"] == 0
    first, *lines = (out / ".seen.jsonl").read_text().splitlines()
    for spoiled in ('{"unit": 3}', "null", '{"unit": "a", "print": "b", "rows": [3]}', "\xff"):
        (out / ".seen.jsonl").write_text("\n".join([first, spoiled, *lines[1:]]))
        assert build_index(made / "data", out, workers=1)["inspected"] == 1
    (out / ".seen.jsonl").write_text("\n".join(["[]", *lines]))
    assert build_index(made / "data", out, workers=1)["inspected"] == 2


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("plan.json", {"options": {"fps": -1}}),
        ("plan.json", {"options": {"fps": float("nan")}}),
        ("plan.json", {"options": {"unknown": 1}}),
        ("plan.json", {"options": 3}),
        ("plan.json", {"rows": 3}),
        ("plan.json", {"rows": [{}]}),
        ("plan.json", {"rows": [{"camera": 3}]}),
        ("summary.json", {"shards": 10**9}),
        ("summary.json", {"shards": -1}),
        ("summary.json", {"shards": "1"}),
    ],
)
def test_wrong_metadata_of_prepared_data_are_one_error(made, tmp_path, file, change):
    out = shutil.copytree(made / "out", tmp_path / "out")
    path = out / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=file.replace(".", r"\.")):
        PreparedClips(out, 4)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"options": [1], "rows": []}'])
def test_a_damaged_plan_is_not_prepared_over(made, tmp_path, text):
    out = shutil.copytree(made / "out", tmp_path / "out")
    (out / "plan.json").write_text(text)
    options, transform = PrepareOptions(image_size=16), Preprocess("droid", (16, 16))
    with pytest.raises(DataError, match=r"plan\.json"):
        prepare(open_manifest(made / "index"), out, options, transform)
    assert (out / "plan.json").read_text() == text


def images_of_another_size(tensors):
    tensors["jpeg"] = torch.zeros_like(tensors["jpeg"])


def pictures(tensors, mode, side):
    """Put other pictures into a shard."""
    buffer = io.BytesIO()
    Image.new(mode, (side, side)).save(buffer, "PNG")
    count = len(tensors["states"])
    data = bytearray(buffer.getvalue() * count)
    tensors["jpeg"] = torch.frombuffer(data, dtype=torch.uint8)
    tensors["offsets"] = torch.arange(count + 1) * len(buffer.getvalue())


SHARDS = {
    "no states": lambda t: t.pop("states"),
    "starts beyond the end": lambda t: t.update(starts=torch.tensor([0, 10**12])),
    "starts backwards": lambda t: t.update(starts=torch.tensor([0, 6, 3])),
    "negative starts": lambda t: t.update(starts=torch.tensor([-5, 6])),
    "states not finite": lambda t: t["states"].fill_(np.nan),
    "flat states": lambda t: t.update(states=t["states"].flatten()),
    "no images": lambda t: t.pop("jpeg"),
    "damaged images": images_of_another_size,
    "narrow states": lambda t: t.update(states=t["states"][:, :3]),
    "states of whole numbers": lambda t: t.update(states=t["states"].long()),
    "starts of fractions": lambda t: t.update(starts=t["starts"].double()),
    "starts in rows": lambda t: t.update(starts=t["starts"][None]),
    "fewer images than states": lambda t: t.update(offsets=t["offsets"][:5]),
    "images backwards": lambda t: t.update(offsets=t["offsets"].flip(0)),
    "grey images": lambda t: pictures(t, "L", 16),
    "large images": lambda t: pictures(t, "RGB", 32),
    "frames for images": lambda t: t.update(frames=t.pop("jpeg")),
    "offsets beyond the end": lambda t: t.update(offsets=t["offsets"] * 10**6),
}


@pytest.mark.parametrize("name", SHARDS)
def test_a_wrong_shard_is_one_error_that_names_it(made, tmp_path, name):
    out = shutil.copytree(made / "out", tmp_path / "out")
    path = out / "shard-000000.safetensors"
    tensors = load_file(path)
    SHARDS[name](tensors)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    with pytest.raises(DataError, match="shard-000000"):
        PreparedClips(out, 4, verify=False).batch(np.array([0]))


@pytest.mark.parametrize("wrong", ["fewer", "channels", "type", "size"])
def test_frames_that_are_not_one_for_each_state_are_an_error(made, tmp_path, wrong):
    options, out = PrepareOptions(image_size=16, codec="raw"), tmp_path / "out"
    prepare(open_manifest(made / "index"), out, options, Preprocess("droid", (16, 16)))
    path = out / "shard-000000.safetensors"
    tensors = load_file(path)
    frames = tensors["frames"]
    tensors["frames"] = {
        "fewer": frames[:-1],
        "channels": frames[..., :1],
        "type": frames.float(),
        "size": frames[:, :8],
    }[wrong].contiguous()
    save_file(tensors, path)
    with pytest.raises(DataError, match=r"shard-000000.* states"):
        PreparedClips(out, 4, verify=False)
