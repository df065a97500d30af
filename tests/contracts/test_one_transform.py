"""The promise of a checkpoint: one picture has the same tokens in training, planning and driving.

A picture of another size than the model's is recorded as an episode, read back as a training clip,
planned from as a file, looked at by an agent in an environment, and by a camera of a drive.
"""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from planning.agent import PlanningAgent
from planning.apps.policies import open_policy
from planning.apps.replay import replay
from planning.cli.app import main
from planning.goals import GoalPicture
from planning.options import ReplayOptions
from planning.planner_options import PlannerOptions
from planning.rollout import run_episode
from robot.record import Recording
from worldmodel.data.dataset import open_row
from worldmodel.data.flat_arrays import index_folder
from worldmodel.data.memory import open_clips
from worldmodel.data.writers.droid import write_episode
from worldmodel.models.world_model import WorldModel

SIZES = {
    "square 512": (512, 512),
    "landscape": (480, 640),
    "square 256": (256, 256),
    "portrait": (640, 480),
    "wide": (360, 640),
}
SMALL = PlannerOptions(samples=4, iterations=1, elites=2, stretch=1)
WORDS = ["samples=4", "iterations=1", "elites=2", "stretch=1", "device=cpu"]


class Still:
    """An environment whose camera always sees the same picture."""

    def __init__(self, image):
        self.seen = {"image": image, "state": np.array([0.5, 0, 0.3, 3.1, 0, -0.8, 0], np.float32)}
        self.facts = {
            name: np.zeros(3) for name in ("tcp_m", "goal_tcp_m", "object_m", "target_m")
        } | {"success": False, "holding": False}

    def reset(self, *, seed=None):
        return self.seen, self.facts

    def step(self, action):
        return self.seen, 0.0, False, False, self.facts

    def sub_goals(self, variant="default"):
        return [GoalPicture("same", self.seen["image"], self.seen["state"], 1)]


def picture(size, seed):
    """Smooth colours with edges: a resizer that filters differently gives other values."""
    rng = np.random.default_rng(seed)
    rows, columns = size
    small = Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8))
    image = np.array(small.resize((columns, rows), Image.Resampling.BICUBIC))
    image[rows // 3 : rows // 2, columns // 4 : columns // 2] = rng.integers(0, 255, 3)
    return image


def recording_of(image, rows=8):
    recording = Recording()
    for i in range(rows):
        state = np.array([0.4 + 0.02 * i, 0, 0.3, 3.1, 0, -0.8, 0.0])
        recording.add(
            frames={"left": image},
            state=state,
            joints=np.full(7, 0.1 * i),
            action=np.array([0.02, 0, 0, 0, 0, 0, 0.0]),
            target=state,
            time_s=1.0 + 0.25 * i,
        )
    return recording


@pytest.fixture(params=["droid", "published"])
def model(request, make_model, tmp_path):
    """A file; `published` resizes and crops, so that applying it twice gives another picture."""
    return make_model(image_size=64, transform=request.param)


@pytest.fixture
def encoded(monkeypatch):
    """Tokens of every picture that a world model encodes, in order."""
    tokens, encode = [], WorldModel.encode

    def spy(self, frames_BHWC):
        tokens.append(encode(self, frames_BHWC))
        return tokens[-1]

    monkeypatch.setattr(WorldModel, "encode", spy)
    return tokens


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_picture_has_the_same_tokens_everywhere(size, model, encoded, tmp_path):
    data, cache = tmp_path / "data", tmp_path / "cache"
    write_episode(data, recording_of(picture(size, 1)), success=True, task="still", stamp="one")
    policy = open_policy(str(model), SMALL, device="cpu")
    spec = policy.model.observation_spec
    clips = open_clips(
        data, 2, spec.image_size[0], transform=spec.transform, cache=cache, workers=1
    )
    clip = torch.from_numpy(clips.batch(np.array([0]))["frames"][0, :1])
    policy.model.encode(clip)
    trained = encoded.pop()

    manifest = index_folder(data, workers=1, cache=cache)
    source = open_row(manifest, manifest.rows[0]).camera("left").frames
    raw = np.asarray(source.read(np.array([0])))[0]  # the video's own pixels, as decoded
    assert raw.shape[:2] == size
    file, camera = tmp_path / "same.png", tmp_path / "camera"
    camera.mkdir()
    Image.fromarray(raw).save(file)
    for index in range(2):  # one for the step, one for the last look
        shutil.copy(file, camera / f"{index}.png")

    encoded.clear()
    words = ["plan", f"image={file}", f"goal={file}", f"model={model}", f"out={tmp_path}/plan"]
    assert main([*words, *WORDS]) == 0
    planned = list(encoded)

    encoded.clear()
    run_episode(Still(raw), PlanningAgent(policy), task="reach", seed=0)
    evaluated = list(encoded)

    encoded.clear()
    out = tmp_path / "drive"
    words = ["drive", "robot=fake", f"camera={camera}", f"goals={file}", f"model={model}"]
    assert main([*words, *WORDS, "steps=[1]", f"out={out}"]) == 0
    driven = list(encoded)

    for tokens in (planned, evaluated, driven):
        assert len(tokens) >= 2
        assert all(torch.equal(z, trained) for z in tokens)

    summary, _ = replay(ReplayOptions(run=str(out), out=str(tmp_path / "replay")))
    assert summary["largest_difference"] == 0.0
