import json

import numpy as np
import pytest
import torch

from planning.cli.app import main
from worldmodel.data.dataset import RawClips
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.prepare import PrepareOptions, encoder_hash, prepare
from worldmodel.data.prepared import PreparedClips
from worldmodel.data.sampling import ClipOptions
from worldmodel.data.transforms import Preprocess
from worldmodel.data.writers.synthetic import write_dataset
from worldmodel.errors import ConfigError, DataError

SHRINK = Preprocess("droid", (32, 32))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    root = tmp_path_factory.mktemp("prepare")
    write_dataset(root / "data", episodes=5, steps=75, size=(48, 64))
    build_index(root / "data", root / "index", workers=1)
    return open_manifest(root / "index")


def options(**changes):
    return PrepareOptions(image_size=32, episodes_per_shard=2, **changes)


def test_prepared_frames_equal_the_raw_ones(manifest, tmp_path):
    raw = RawClips(manifest, ClipOptions(num_frames=6), SHRINK)
    for codec, allowed in (("raw", 0), ("jpeg", 3)):
        made = prepare(manifest, tmp_path / codec, options(codec=codec), SHRINK)
        assert (made["shards"], made["made"]) == (3, 3)
        ready = PreparedClips(tmp_path / codec, 6)
        assert len(ready) == len(raw)
        chosen = np.array([0, 17, len(raw) - 1])
        a, b = raw.batch(chosen), ready.batch(chosen)
        assert np.abs(a["frames"].astype(int) - b["frames"]).mean() <= allowed
        np.testing.assert_allclose(a["states"], b["states"], atol=1e-6)
        np.testing.assert_allclose(a["actions"], b["actions"], atol=1e-6)


def test_resumes_after_complete_shards_and_replaces_a_damaged_one(manifest, tmp_path):
    prepare(manifest, tmp_path, options(), SHRINK)
    shard = tmp_path / "shard-000001.safetensors"
    good = shard.read_bytes()
    shard.write_bytes(good[:-5])
    with pytest.raises(DataError, match="damaged"):
        PreparedClips(tmp_path, 6)
    assert prepare(manifest, tmp_path, options(), SHRINK)["made"] == 1
    assert shard.read_bytes() == good
    with pytest.raises(ConfigError, match="another plan"):
        prepare(manifest, tmp_path, options(fps=5.0), SHRINK)


def test_features_carry_the_encoder_hash(manifest, tmp_path):
    encoder = torch.nn.Linear(3, 8)
    digest = encoder_hash(encoder)

    def encode(frames):
        with torch.no_grad():
            return encoder(frames[:, ::8, ::8].float() / 255).flatten(1, 2)

    made = prepare(
        manifest, tmp_path, options(what="features", encoder_hash=digest), SHRINK, encode
    )
    assert made["encoder_hash"] == digest
    batch = PreparedClips(tmp_path, 4).batch(np.array([0, 1]))
    assert batch["features"].shape == (2, 4, 16, 8)
    assert batch["features"].dtype == torch.bfloat16
    encoder.weight.data[0, 0] += 1
    assert encoder_hash(encoder) != digest


def test_clip_that_went_bad_after_indexing_stops_with_its_name(manifest, tmp_path):
    broken = json.loads(json.dumps(manifest.rows))
    clips = RawClips(manifest, ClipOptions(num_frames=4), SHRINK)
    path = manifest.root / broken[2]["path"]
    video = next(path.rglob("*.mp4"))
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    index = next(i for i, (row, _) in enumerate(clips.items) if row == 2)
    with pytest.raises(DataError, match="episode-0002"):
        clips.batch(np.array([0, index]))
    video.write_bytes(whole)


def test_the_command_stores_features_of_a_frozen_encoder(manifest, tmp_path, capsys):
    words = ["data", "prepare", f"index={manifest.root.parent / 'index'}", f"out={tmp_path}"]
    words += ["what=features", "encoder=random:tiny", "image_size=32"]
    assert main(words) == 0
    assert len(json.loads((tmp_path / "summary.json").read_text())["encoder_hash"]) == 16
    assert PreparedClips(tmp_path, 4).batch(np.array([0]))["features"].shape == (1, 4, 4, 32)
    assert main([*words, "what=nothing"]) == 2
