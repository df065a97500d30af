"""Weights of which a part is missing, or whose descriptions ask for the absurd."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from worldmodel.checkpoints.assemble import PublishedFile, assemble
from worldmodel.checkpoints.container import KEY
from worldmodel.checkpoints.io import load_own, save
from worldmodel.checkpoints.loading import load_any
from worldmodel.checkpoints.published.ijepa import write_huggingface
from worldmodel.checkpoints.published.loading import load_published
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.config import EncoderConfig, PredictorConfig
from worldmodel.models.config_dict import to_dict
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.model_config import ModelConfig
from worldmodel.models.world_model import WorldModel
from worldmodel.specs import ObservationSpec

DEPTH = 4
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path):
    """An I-JEPA encoder in Hugging Face's layout, as one file."""
    config = EncoderConfig(
        embed_dim=32,
        depth=DEPTH,
        num_heads=2,
        patch_size=16,
        tubelet_size=1,
        image_size=(32, 32),
        num_frames=1,
        position="sincos_2d",
    )
    torch.manual_seed(0)
    write_huggingface(VisionTransformer(config), tmp_path / "hf")
    return tmp_path / "hf"


def shards(folder, *, index):
    """Split the file of a folder: one shard for each block, the last one with all the rest."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    total, names, listed = DEPTH + 1, [], {}
    for number in range(total):
        mine = {
            k: v
            for k, v in tensors.items()
            if k.startswith(f"encoder.layer.{number}.") or (number == DEPTH and ".layer." not in k)
        }
        names.append(f"model-{number + 1:05d}-of-{total:05d}.safetensors")
        listed |= dict.fromkeys(mine, names[-1])
        save_file(mine, folder / names[-1])
    if index:
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    return [folder / name for name in names]


def readers(path):
    return [
        lambda: load_published(path, "encoder"),
        lambda: assemble(PublishedFile(path)),
        lambda: load_any(path, "cpu"),
    ]


@pytest.mark.parametrize("index", [False, True])
def test_shards_are_one_model_from_the_folder_and_from_a_shard(folder, index):
    whole = load_published(folder, "encoder").state_dict()
    for path in (folder, *shards(folder, index=index)):
        found = load_published(path, "encoder").state_dict()
        assert found.keys() == whole.keys()
        assert all(torch.equal(found[k], whole[k]) for k in whole)


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("lost", range(DEPTH + 1))
@pytest.mark.parametrize("config", [True, False])
def test_a_missing_shard_is_an_error_for_every_reader(folder, index, lost, config):
    files = shards(folder, index=index)
    files[lost].unlink()
    if not config:
        (folder / "config.json").unlink()
    paths = [files[0 if lost else 1]] + [folder] * config
    for path in paths:
        for read in readers(path):
            with pytest.raises(CheckpointError, match=files[lost].name):
                read()


@pytest.mark.parametrize("lost", range(DEPTH))
def test_missing_blocks_of_one_file(folder, lost):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if f".layer.{lost}." not in k}, path)
    for read in readers(folder):
        with pytest.raises(CheckpointError, match="num_hidden_layers"):
            read()
    if lost < DEPTH - 1:
        (folder / "config.json").unlink()
        with pytest.raises(CheckpointError, match=rf"blocks\.{lost} is not"):
            load_published(path, "encoder", num_heads=2)


INDICES = {
    "a tensor more": lambda m: m | {"encoder.layer.9.x": next(iter(m.values()))},
    "a tensor less": lambda m: dict(list(m.items())[1:]),
    "another file": lambda m: m | {next(iter(m)): list(m.values())[-1]},
    "a file that is missing": lambda m: m | {"x": "model-00009-of-00009.safetensors"},
    "outside": lambda m: m | {next(iter(m)): "../other.safetensors"},
    "absolute": lambda m: m | {next(iter(m)): "/etc/passwd"},
    "numbers": lambda m: dict.fromkeys(m, 3),
    "a list": lambda m: list(m),
    "null": lambda m: None,
}


@pytest.mark.parametrize("name", INDICES)
def test_an_index_that_does_not_fit_its_files(folder, name):
    shards(folder, index=True)
    listed = json.loads((folder / INDEX).read_text())["weight_map"]
    (folder / INDEX).write_text(json.dumps({"weight_map": INDICES[name](listed)}))
    for read in readers(folder):
        with pytest.raises(CheckpointError, match=r"index\.json|model-00009"):
            read()


CONFIG = ("num_hidden_layers", "hidden_size", "num_attention_heads", "image_size", "patch_size")
ABSURD = [0, -1, 10**12, 1.5, 1e300, float("nan"), "12", None, [], {}, True, False]


@pytest.mark.parametrize("name", [*CONFIG, "layer_norm_eps", "model_type", "frames_per_clip"])
@pytest.mark.parametrize("value", ABSURD, ids=repr)
def test_a_config_that_is_absurd(folder, name, value):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {name: value}))
    for read in readers(folder):
        try:
            read()
        except (CheckpointError, ConfigError):
            continue
        assert name in {"layer_norm_eps", "model_type"}, "only 0 and unused values pass"


TORCH = {
    "hole": lambda t: [t.pop(k) for k in list(t) if k.startswith("blocks.1.")],
    "huge number": lambda t: t.update({"blocks.1000000000.mlp.fc1.weight": torch.zeros(2, 2)}),
    "nine nines": lambda t: t.update({"blocks.999999999.mlp.fc1.weight": torch.zeros(2, 2)}),
    "expanded": lambda t: t.update({"blocks.0.attn.qkv.weight": torch.zeros(1).expand(96, 32)}),
    "empty": lambda t: t.update({"norm.bias": torch.zeros(0)}),
    "meta": lambda t: t.update({"norm.bias": torch.zeros(32, device="meta")}),
    "sparse": lambda t: t.update({"norm.bias": torch.zeros(32).to_sparse()}),
    "not a tensor": lambda t: t.update({"norm.bias": [1.0] * 32}),
}


@pytest.mark.parametrize("name", TORCH)
def test_torch_files_with_holes_and_tricks(tmp_path, name):
    config = EncoderConfig(embed_dim=32, depth=3, num_heads=2, image_size=(32, 32), num_frames=2)
    tensors = dict(VisionTransformer(config).state_dict())
    torch.save({"encoder": tensors}, tmp_path / "whole.pt")
    load_published(tmp_path / "whole.pt", "encoder", num_heads=2, image_size=32)
    TORCH[name](tensors)
    torch.save({"encoder": tensors}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=r"odd\.pt"):
        load_published(tmp_path / "odd.pt", "encoder", num_heads=2, image_size=32)


def test_containers_that_contain_themselves(tmp_path):
    loop = {"encoder": {}}
    loop["loop"] = [loop]
    torch.save(loop, tmp_path / "loop.pt")
    with pytest.raises(CheckpointError):
        assemble(PublishedFile(tmp_path / "loop.pt"))


STAND_INS = {
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n",
    "html": b"\n<!DOCTYPE html><html><body>404</body></html>",
    "xml": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "json": b'{"error": "Repository not found"}',
    "words": b"Entry not found",
    "empty": b"",
}


@pytest.mark.parametrize("kind", [*STAND_INS, "pipe", "torch file"])
@pytest.mark.parametrize("name", ["model.safetensors", "vitl.pt"])
def test_what_lies_in_the_place_of_weights(tmp_path, kind, name):
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "torch file":
        torch.save({"encoder": {}}, path)
    else:
        path.write_bytes(STAND_INS[kind])
    words = {"lfs": "git lfs pull", "html": "web page", "xml": "web page", "json": "text file"}
    words |= {"words": "text file", "empty": "empty", "pipe": "regular|No model"}
    words["torch file"] = "rename it" if name.endswith("safetensors") else r"vitl\.pt"
    reads = [*readers(path), lambda: load_own(path)] if kind != "torch file" else readers(path)
    for read in reads:
        with pytest.raises(CheckpointError, match=words[kind]):
            read()


def test_a_stand_in_among_the_files_of_a_folder(folder):
    for name, words in {"model.safetensors": "git lfs pull", "config.json": "config.json"}.items():
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(STAND_INS["lfs"])
        for read in readers(folder):
            with pytest.raises(CheckpointError, match=words):
                read()
        (folder / name).write_bytes(whole)


SMALL = ModelConfig(
    encoder=EncoderConfig(embed_dim=32, depth=1, num_heads=2, image_size=(32, 32), num_frames=2),
    predictor=PredictorConfig(grid=(2, 2), encoder_dim=32, embed_dim=32, depth=1, num_heads=2),
    observation=ObservationSpec(image_size=(32, 32)),
)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A small world model in our own format: its header and the bytes behind it."""
    path = tmp_path_factory.mktemp("own") / "m.safetensors"
    save(path, WorldModel.from_config(SMALL))
    load_own(path)
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def described(own, path, *, text=None, where=(), value=None):
    """Write the small model with another description, or with one changed entry."""
    header, data = json.loads(json.dumps(own[0])), own[1]
    if text is None:
        description = json.loads(header["__metadata__"][KEY])
        inner = description["config"]
        for key in where[:-1]:
            inner = inner[key]
        inner[where[-1]] = value
        text = json.dumps(description)
    header["__metadata__"][KEY] = text
    start = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(start)) + start + data)
    return path


def leaves(value, where=()):
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from leaves(inside, (*where, key))
    else:
        yield where


LEAVES = list(leaves(to_dict(SMALL)))
VALUES = [10**9, -1, 1e308, float("nan"), "x", None, {}, [], [10**9] * 3, ["x"]]


@pytest.mark.parametrize("where", LEAVES, ids="/".join)
def test_each_entry_of_our_own_description_is_checked(own, tmp_path, where):
    path = tmp_path / "m.safetensors"
    for value in VALUES:
        described(own, path, where=where, value=value)
        try:
            load_own(path)
        except CheckpointError:
            continue


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("predictor", "rope"), "x"),
        (("action", "period_s"), -1),
        (("action", "max_step_m"), float("nan")),
        (("encoder", "depth"), 10**9),
        (("observation", "image_size"), [0, 0]),
    ],
    ids=str,
)
def test_wrong_numbers_of_our_own_description_are_named(own, tmp_path, where, value):
    path = described(own, tmp_path / "m.safetensors", where=where, value=value)
    with pytest.raises(CheckpointError, match=rf"m\.safetensors.*{where[-1]}"):
        load_own(path)


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "7", "null", '{"kind": 3}', "{}"])
def test_descriptions_that_are_no_description(own, tmp_path, text):
    path = described(own, tmp_path / "m.safetensors", text=text)
    with pytest.raises(CheckpointError, match=r"m\.safetensors"):
        load_own(path)
