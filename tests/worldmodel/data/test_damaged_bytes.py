"""Whatever bytes a file of a data set holds, the index rejects, or says which file is wrong."""

import random
import shutil
from pathlib import Path

import pytest

from tests.worldmodel.data.other_layouts import write_lerobot, write_rlds
from worldmodel.data.index import build_index
from worldmodel.data.readers import lerobot_list
from worldmodel.data.writers.synthetic import draw_episode, random_states
from worldmodel.errors import DataError

STEPS = 6


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    episodes = [random_states(STEPS, seed) for seed in (0, 1)]
    for number, states in enumerate(episodes):
        draw_episode(root / "droid", f"e{number}", states, size=(16, 32), cameras=("left",))
    write_rlds(root / "rlds", episodes)
    write_lerobot(root / "images", episodes, "v2.1", image_views=True)
    write_lerobot(root / "shared", episodes, "v3.0")
    return root


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Flip bits, cut off, overwrite or insert."""
    at, size = rng.randrange(len(data)), rng.choice([1, 8, 64])
    noise = bytes(rng.randrange(256) for _ in range(size))
    flipped = bytes([data[at] ^ 1 << rng.randrange(8)])
    ways = [
        data[:at] + flipped + data[at + 1 :],
        data[:at],
        data[:at] + noise + data[at + size :],
        data[:at] + b"\xff" * size + data[at + size :],
        data[:at] + noise + data[at:],
    ]
    return rng.choice(ways)


@pytest.mark.parametrize("layout", ["droid", "rlds", "images", "shared"])
def test_any_damage_ends_in_rejects_or_one_error(sets, tmp_path, layout):
    rng = random.Random(layout)
    for number in range(20):
        root = shutil.copytree(sets / layout, tmp_path / str(number))
        path = rng.choice(sorted(p for p in root.rglob("*") if p.is_file()))
        path.write_bytes(damaged(path.read_bytes(), rng))
        lerobot_list.read_info.cache_clear()
        lerobot_list.list_episodes.cache_clear()
        accepted, message = outcome(root, tmp_path / f"out-{number}")
        assert accepted or str(root) in message
        assert accepted or layout != "droid"  # the other episode has files of its own


def outcome(root: Path, out: Path) -> tuple[int, str]:
    try:
        return build_index(root, out, workers=1)["accepted"], ""
    except DataError as error:
        return 0, str(error)
