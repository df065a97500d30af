"""Flat arrays, prepared frames and raw clips of one recording hold the same pixels."""

import numpy as np
import pytest

from robot.record import Recording
from worldmodel.data.dataset import RawClips
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.memory import open_clips
from worldmodel.data.prepare import PrepareOptions, prepare
from worldmodel.data.prepared import PreparedClips
from worldmodel.data.sampling import ClipOptions
from worldmodel.data.transforms import Preprocess
from worldmodel.data.writers.droid import write_episode
from worldmodel.data.writers.synthetic import draw_frames, random_states

SIZES = {"square 512": (512, 512), "640x480": (480, 640), "square 256": (256, 256)}
SIZES |= {"portrait": (640, 480)}
STEPS, SIDE = 6, 64


def record(root, size):
    """An episode at 4 Hz, with noise so that every resizer would show."""
    states = random_states(STEPS, 0)
    frames = draw_frames(states, size).astype(np.int16)
    frames += np.random.default_rng(0).integers(-40, 40, frames.shape, np.int16)
    found = Recording()
    for step, state in enumerate(states):
        found.add(
            frames={"left": frames[step].clip(0, 255).astype(np.uint8)},
            state=state,
            joints=np.zeros(7),
            action=np.zeros(7),
            target=state,
            time_s=0.25 * step,
        )
    write_episode(root, found, success=True, task="", stamp="one")


@pytest.mark.parametrize("kind", ["droid", "squeeze"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_frames_are_bit_equal_whichever_way_they_come(tmp_path, size, kind):
    record(tmp_path / "data", size)
    build_index(tmp_path / "data", tmp_path / "index", workers=1)
    manifest = open_manifest(tmp_path / "index")
    transform = Preprocess(kind, (SIDE, SIDE))
    decoded = manifest_frames(manifest)
    raw = RawClips(manifest, ClipOptions(num_frames=STEPS), transform).batch(np.array([0]))
    plan = PrepareOptions(image_size=SIDE, transform=kind, codec="raw")
    prepare(manifest, tmp_path / "prepared", plan, transform)
    prepared = PreparedClips(tmp_path / "prepared", STEPS).batch(np.array([0]))
    memory = open_clips(tmp_path / "data", STEPS, SIDE, transform=kind).batch(np.array([0]))
    wanted = transform(decoded).numpy()
    for batch in (raw, prepared, memory):
        np.testing.assert_array_equal(batch["frames"][0], wanted)


def manifest_frames(manifest):
    from worldmodel.data.dataset import open_row

    frames = open_row(manifest, manifest.rows[0]).camera("left").frames
    return frames.read(np.arange(STEPS))
