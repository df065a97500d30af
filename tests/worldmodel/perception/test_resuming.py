"""What stored features and tokens depend on is compared when a run is resumed."""

import contextlib
import dataclasses
import functools
import os
import resource
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from tests.worldmodel.data.odd_videos import write
from worldmodel.errors import ConfigError, DataError
from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.models.model_hash import model_hash, weights_hash
from worldmodel.perception.features.extract import FeatureConfig, write_features
from worldmodel.perception.features.merge import merge_features
from worldmodel.perception.hdf5_file import MARGIN
from worldmodel.perception.probes.labelled_videos import (
    LabelledItem,
    LabelledItems,
    read_class_folders,
)
from worldmodel.perception.probes.recipes import Recipe
from worldmodel.perception.probes.token_file import encode_items
from worldmodel.perception.probes.token_set import encode_set
from worldmodel.perception.sharing import OneProcess
from worldmodel.shards import Shard

SMALL = EncoderConfig(image_size=(32, 32), embed_dim=24, depth=1, num_heads=2)
CONFIG = FeatureConfig(num_frames=4, fps=4.0)


def made(config=SMALL, seed=0):
    torch.manual_seed(seed)
    return VideoEncoder.of(VisionTransformer(config))


def test_a_hash_tells_weights_and_configuration():
    one = made()
    assert model_hash(one) == model_hash(made())
    assert model_hash(one) != model_hash(made(seed=1))
    heads = made(dataclasses.replace(SMALL, num_heads=3))
    assert weights_hash(heads) == weights_hash(one)
    assert model_hash(heads) != model_hash(one)


@pytest.mark.parametrize("change", ["weights", "heads", "fps", "code"])
def test_features_of_another_kind_are_not_added(tmp_path, change, monkeypatch):
    write(tmp_path / "in" / "a.mp4", 30)
    out = tmp_path / "f.h5"
    write_features(tmp_path / "in", out, made(), "name", CONFIG)
    again = write_features(tmp_path / "in", out, made(), "a moved file", CONFIG)
    assert (again.skipped, again.clips) == (1, 0)
    model, config = made(), CONFIG
    if change == "weights":
        model = made(seed=1)
    elif change == "heads":
        model = made(dataclasses.replace(SMALL, num_heads=3))
    elif change == "fps":
        config = dataclasses.replace(CONFIG, fps=2.0)
    else:
        monkeypatch.setattr("worldmodel.perception.features.extract.code_digest", lambda: "later")
    with pytest.raises(ConfigError, match="another out"):
        write_features(tmp_path / "in", out, model, "name", config)


def test_features_without_a_recorded_model_are_not_added_to(tmp_path):
    write(tmp_path / "in" / "a.mp4", 30)
    write_features(tmp_path / "in", tmp_path / "f.h5", made(), "name", CONFIG)
    with h5py.File(tmp_path / "f.h5", "a") as file:
        del file.attrs["model_hash"]
    with pytest.raises(ConfigError, match="unknown"):
        write_features(tmp_path / "in", tmp_path / "f.h5", made(), "name", CONFIG)


def test_a_full_disk_keeps_all_features_so_far(tmp_path):
    """A limit on the size of files has the same effect on HDF5 as a full disk."""
    for name in "abcdef":
        write(tmp_path / "in" / f"{name}.mp4", 30)
    run = functools.partial(write_features, tmp_path / "in", name="name", config=CONFIG)
    run(out=tmp_path / "whole.h5", model=made())
    before, size = resource.getrlimit(resource.RLIMIT_FSIZE), (tmp_path / "whole.h5").stat().st_size
    for limit in range(1000, size + 2 * MARGIN, size // 2):
        out = tmp_path / f"{limit}.h5"
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with contextlib.suppress(OSError, DataError):
                run(out=out, model=made())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        run(out=out, model=made())
        with h5py.File(out) as file, h5py.File(tmp_path / "whole.h5") as whole:
            assert all(np.array_equal(file[n]["features"], whole[n]["features"]) for n in whole)
        assert out.stat().st_size < 2 * size
    assert not list(tmp_path.glob(".*"))


def test_a_merge_that_does_not_fit_says_so_and_blames_no_shard(tmp_path):
    for name in "ab":
        write(tmp_path / "in" / f"{name}.mp4", 30)
    out = tmp_path / "f.h5"
    for number in range(2):
        shard = Shard(number=number, count=2)
        write_features(tmp_path / "in", out, made(), "name", CONFIG, shard=shard)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MARGIN, before[1]))
    try:
        with pytest.raises(OSError, match=str(out)):
            merge_features(out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not out.exists()
    assert merge_features(out)[0].videos == 2


def test_a_video_that_changed_is_encoded_again(tmp_path):
    path, out = write(tmp_path / "in" / "a.mp4", 30), tmp_path / "f.h5"
    write(tmp_path / "in" / "b.mp4", 30)
    write_features(tmp_path / "in", out, made(), "name", CONFIG)
    write(path, 45)
    result = write_features(tmp_path / "in", out, made(), "name", CONFIG)
    assert (result.skipped, result.videos) == (1, 2)
    write_features(tmp_path / "in", tmp_path / "fresh.h5", made(), "name", CONFIG)
    with h5py.File(out) as file, h5py.File(tmp_path / "fresh.h5") as fresh:
        for name in ("a.mp4", "b.mp4"):
            np.testing.assert_array_equal(file[name]["features"], fresh[name]["features"])


def test_files_of_others_are_left_alone(tmp_path):
    write(tmp_path / "in" / "a.mp4", 30)
    for name, data in {"text.h5": b"mine", "f.json": b'{"mine": 1}'}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="not an HDF5 file"):
            write_features(tmp_path / "in", tmp_path / name, made(), "name", CONFIG)
        assert (tmp_path / name).read_bytes() == data
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(DataError, match="regular file"):
        write_features(tmp_path / "in", tmp_path / "pipe.h5", made(), "name", CONFIG)


def test_a_file_that_another_process_writes_is_not_called_damaged(tmp_path):
    write(tmp_path / "in" / "a.mp4", 30)
    out = tmp_path / "f.h5"
    write_features(tmp_path / "in", out, made(), "name", CONFIG)
    code = f"import h5py; f = h5py.File({str(out)!r}, 'a'); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline().strip() == "open"
        with pytest.raises(DataError, match="another process"):
            write_features(tmp_path / "in", out, made(), "name", CONFIG)
        other.communicate("\n")
    assert write_features(tmp_path / "in", out, made(), "name", CONFIG).skipped == 1


@pytest.mark.parametrize("kind", ["soft", "external", "storage", "virtual"])
@pytest.mark.parametrize("of", ["features", "tokens"])
def test_results_that_lead_into_other_files_are_refused(kind, of, tmp_path):
    path, out = write(tmp_path / "in" / "a.mp4", 30), tmp_path / "f.h5"
    items = LabelledItems((LabelledItem(path, 0),), {}, ("one",))
    recipe = Recipe(num_frames=4, frame_step=1, num_segments=1)

    def again():
        if of == "features":
            return write_features(tmp_path / "in", out, made(), "name", CONFIG)
        return encode_items(out, made(), items, recipe, name="name", num_views=1)

    stored = again()
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.arange(3.0)
    before = (tmp_path / "other.h5").read_bytes()
    with h5py.File(out, "a") as file:
        if kind == "soft":
            file["more"] = h5py.SoftLink("/a.mp4")
        elif kind == "external":
            file["more"] = h5py.ExternalLink("other.h5", "/secret")
        elif kind == "storage":
            file.create_dataset("more", (3,), "f8", external=[(str(tmp_path / "other.h5"), 0, 24)])
        else:
            layout = h5py.VirtualLayout((3,), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "secret", (3,))
            file.create_virtual_dataset("more", layout)
    with pytest.raises(DataError, match="more in it leads to other data"):
        again()
    if of == "tokens":
        with pytest.raises(DataError, match="leads to other data"):
            stored.read(torch.tensor([0]))
    assert (tmp_path / "other.h5").read_bytes() == before


def set_attribute(name, value):
    return lambda file: file.attrs.__setitem__(name, value)


def replace(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


ODD_TOKENS = {
    "progress in words": set_attribute("progress", "x"),
    "progress of one number": set_attribute("progress", 3),
    "progress beyond the items": set_attribute("progress", (9, 9)),
    "negative progress": set_attribute("progress", (-1, -1)),
    "rejects that are not JSON": set_attribute("rejected", "{"),
    "rejects in a list": set_attribute("rejected", "[1]"),
    "rejects that are numbers": lambda file: file.create_dataset("rejects", data=[1]),
    "rows of rejects of another kind": lambda file: file.create_dataset(
        "rejects", data=["{}"], maxshape=(None,)
    ),
    "no tokens": lambda file: file.pop("tokens"),
    "flat tokens": replace("tokens", np.zeros((1, 4))),
    "tokens in words": replace("tokens", np.array([b"x"])),
    "labels of others": replace("labels", np.array([7])),
    "fixed size": replace("labels", np.array([0])),
    "a key that is an array": set_attribute("code", np.arange(3)),
}


@pytest.mark.parametrize("name", ODD_TOKENS)
def test_odd_files_of_tokens_are_errors_that_name_them(name, tmp_path):
    path, out = write(tmp_path / "in" / "a.mp4", 30), tmp_path / "t.h5"
    items = LabelledItems((LabelledItem(path, 0),), {}, ("one",))
    recipe = Recipe(num_frames=4, frame_step=1, num_segments=1)
    encode_items(out, made(), items, recipe, name="name", num_views=1)
    with h5py.File(out, "a") as file:
        ODD_TOKENS[name](file)
    with pytest.raises((DataError, ConfigError), match=r"t\.h5.*out="):
        encode_items(out, made(), items, recipe, name="name", num_views=1)


def test_files_grow_with_the_number_of_rejects_and_not_with_its_square(tmp_path):
    model, recipe, sizes = made(), Recipe(num_frames=4, frame_step=1, num_segments=1), []
    for count in (100, 400):
        items = [LabelledItem(tmp_path / f"gone {i}.mp4", 0) for i in range(count)]
        out, all_items = tmp_path / f"{count}.h5", LabelledItems(tuple(items), {}, ("one",))
        found = encode_items(out, model, all_items, recipe, name="name", num_views=1)
        sizes.append(out.stat().st_size)
        with h5py.File(out, "a") as file:  # as a run that ended after half of them
            file.attrs["progress"] = (count // 2, 0)
        again = encode_items(out, model, all_items, recipe, name="name", num_views=1)
        assert len(found.rejected) == count
        assert again.rejected == found.rejected
    assert sizes[1] < 6 * sizes[0]


def test_tokens_that_are_not_finite_are_rejects(tmp_path):
    path, out = write(tmp_path / "in" / "a.mp4", 30), tmp_path / "t.h5"
    model = made()
    with torch.no_grad():
        next(model.parameters()).fill_(1e30)
    items = LabelledItems((LabelledItem(path, 0),), {}, ("one",))
    recipe = Recipe(num_frames=4, frame_step=1, num_segments=1)
    with pytest.raises(DataError, match="not finite as float16"):
        encode_set(out, model, items, recipe, OneProcess(), name="name", num_views=1)


ODD_FEATURES = {
    "a group": lambda group: (group.pop("features"), group.create_group("features")),
    "fixed size": lambda group: (group.pop("features"), group.__setitem__("features", [1.0])),
    "a group beside": lambda group: group.create_group("more"),
    "source that is an array": lambda group: group.attrs.__setitem__("source", [1, 2]),
    "mark that is an array": lambda group: group.attrs.__setitem__("complete", [1, 2]),
}


@pytest.mark.parametrize("name", ODD_FEATURES)
def test_odd_features_are_made_anew(name, tmp_path):
    write(tmp_path / "in" / "a.mp4", 30)
    for out in ("f.h5", "fresh.h5"):
        write_features(tmp_path / "in", tmp_path / out, made(), "name", CONFIG)
    with h5py.File(tmp_path / "f.h5", "a") as file:
        file["a.mp4"].attrs["complete"] = False
        ODD_FEATURES[name](file["a.mp4"])
    result = write_features(tmp_path / "in", tmp_path / "f.h5", made(), "name", CONFIG)
    assert (result.videos, result.skipped, result.rejected) == (1, 0, {})
    with h5py.File(tmp_path / "f.h5") as file, h5py.File(tmp_path / "fresh.h5") as fresh:
        np.testing.assert_array_equal(file["a.mp4/features"], fresh["a.mp4/features"])


def test_odd_names_links_and_things(tmp_path):
    write(tmp_path / "elsewhere" / "a.mp4", 30)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    odd = os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4")
    shutil.copy(tmp_path / "elsewhere" / "a.mp4", odd)
    (folder / "dangling.mp4").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.mp4")
    result = write_features(folder, tmp_path / "f.h5", made(), "name", CONFIG)
    assert set(result.rejected) == {"dangling.mp4", "pipe.mp4"}
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["linked/a.mp4"].attrs["complete"]
        assert file["caf\\xe9.mp4"].attrs["complete"]


def test_linked_files_leave_a_folder_only_if_that_is_said(tmp_path):
    mine, folder = write(tmp_path / "mine" / "a.mp4", 12), tmp_path / "in"
    write(folder / "cats" / "b.mp4", 12)
    (folder / "cats" / "mine.mp4").symlink_to(mine)
    (folder / "cats" / "copy.mp4").symlink_to(folder / "cats" / "b.mp4")
    result = write_features(folder, tmp_path / "f.h5", made(), "name", CONFIG)
    assert result.videos == 2
    assert "links=all" in result.rejected["cats/mine.mp4"]
    found = read_class_folders(folder)
    assert [item.path.name for item in found.items] == ["b.mp4", "copy.mp4"]
    assert "links=all" in found.rejected["cats/mine.mp4"]
    result = write_features(folder, tmp_path / "f.h5", made(), "name", CONFIG, links="all")
    assert (result.videos, result.rejected) == (3, {})
    assert len(read_class_folders(folder, "all").items) == 3
    link = folder / "cats" / "mine.mp4"  # a file that was given itself
    assert write_features(link, tmp_path / "g.h5", made(), "name", CONFIG).videos == 1


def test_class_folders_behind_links_count(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "in" / "cats").mkdir(parents=True)
    (tmp_path / "in" / "cats" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "dogs").symlink_to(tmp_path / "elsewhere")
    found = read_class_folders(tmp_path / "in")
    assert [item.label for item in found.items] == [0, 1]


@pytest.mark.parametrize("change", ["weights", "item"])
def test_tokens_of_another_encoder_or_item_are_not_reused(tmp_path, change):
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 40), (200, 10, 10)).save(path)
    items = LabelledItems((LabelledItem(path, 0),), {})
    recipe, out = Recipe(num_frames=2, frame_step=1, num_segments=1), tmp_path / "t.h5"
    first = encode_items(out, made(), items, recipe, name="m", num_views=1)
    again = encode_items(out, made(), items, recipe, name="moved", num_views=1)
    assert first.shape == again.shape
    encoder = made(seed=int(change == "weights"))
    if change == "item":
        Image.new("RGB", (44, 40), (10, 200, 10)).save(path)
    with pytest.raises(ConfigError, match="encoder_hash=" if change == "weights" else "items="):
        encode_items(out, encoder, items, recipe, name="m", num_views=1)
