"""Mixes of data sets: shares, batches, and what does not fit together."""

import json

import numpy as np
import pytest
import torch

from worldmodel.data.clip_mix import ClipMix
from worldmodel.data.memory import MemoryClips
from worldmodel.errors import DataError
from worldmodel.training.device_clips import DeviceClips, keeps_on_device, num_bytes

CPU = torch.device("cpu")


@pytest.fixture
def make(tmp_path):
    """Return a function that writes random arrays of episodes and opens their clips."""

    def open_set(name, lengths, *, num_frames=3, sent=True, action_dim=7):
        rng, folder = np.random.default_rng(len(name)), tmp_path / name
        folder.mkdir()
        count = sum(lengths)
        sizes = {"states": (7,), "actions": (action_dim,), "objects": (3,), "poses": (3, 4)}
        np.save(folder / "frames.npy", rng.integers(0, 256, (count, 4, 4, 3)).astype(np.uint8))
        for field, size in sizes.items():
            np.save(folder / f"{field}.npy", rng.random((count, *size)).astype(np.float32))
        np.save(folder / "starts.npy", np.cumsum([0, *lengths]))
        (folder / "facts.json").write_text(json.dumps({"sent": sent, "content": name}))
        return MemoryClips(folder, num_frames, labels="simulator")

    return open_set


def test_every_clip_occurs_and_shares_are_those_asked_for(make):
    parts = [make("a", [9, 12]), make("bb", [5]), make("ccc", [3, 3, 30])]
    shares = [0.5, 0.3, 0.2]
    mix = ClipMix(parts, shares, ["a", "bb", "ccc"])
    for number, (part, share) in enumerate(zip(parts, shares, strict=True)):
        clips = mix.clip_C[mix.part_C == number]
        assert set(clips) == set(range(len(part)))
        assert abs(len(clips) / len(mix) - share) < 1 / len(mix)
        assert np.bincount(clips).max() - np.bincount(clips).min() <= 1


@pytest.mark.parametrize("tokens", [False, True])
def test_batches_are_those_of_the_parts_on_the_host_and_on_a_device(make, tokens):
    parts = [make("a", [9, 12]), make("bb", [5])]
    if tokens:
        parts = [
            part.with_tokens(np.random.default_rng(0).random((part.starts[-1], 2, 5), np.float32))
            for part in parts
        ]
    mix = ClipMix(parts, [0.25, 0.75], ["a", "bb"])
    indices = np.random.default_rng(1).permutation(len(mix))
    for clips in (mix, parts[0]):
        chosen = indices[indices < len(clips)]
        found, here = clips.batch(chosen), DeviceClips(clips, CPU).batch(chosen)
        assert found.keys() == here.keys()
        assert ("features" in found) == tokens
        assert ("frames" in found) != tokens
        for name, values in found.items():
            assert here[name].numpy().dtype == values.dtype
            np.testing.assert_array_equal(here[name].numpy(), values)
    one = parts[mix.part_C[indices[0]]].batch(mix.clip_C[indices[:1]])
    np.testing.assert_array_equal(one["states"][0], mix.batch(indices)["states"][0])


def test_only_a_device_with_memory_of_its_own_keeps_clips_by_itself(make, monkeypatch):
    clips = make("a", [9])
    assert not keeps_on_device(clips, CPU, "auto")
    assert keeps_on_device(clips, CPU, "device")
    cuda, size = torch.device("cuda"), num_bytes(clips)
    for free, fits in ((2 * size, True), (2 * size - 1, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 10**12))
        assert keeps_on_device(clips, cuda, "auto") == fits
    assert not keeps_on_device(clips, cuda, "host")


def test_sets_that_do_not_fit_together_are_named(make):
    first = make("a", [9])
    for other, message in (
        (make("short", [2, 2]), "holds no clip of 3 frames"),
        (make("recorded", [9], sent=False), "actions as sent"),
        (make("other sizes", [9], action_dim=4), "use episodes of one size"),
    ):
        with pytest.raises(DataError, match=message):
            ClipMix([first, other], [0.5, 0.5], ["a", "b"])
