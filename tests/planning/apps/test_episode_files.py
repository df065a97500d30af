"""Files of episodes: everything comes back, and nothing else is accepted."""

import json
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from envs.goals import SubGoal
from planning.apps.episode_files import _to_tree, load_episode, save_episode
from planning.apps.kept_episodes import KeptEpisodes
from planning.apps.npz_file import read_npz
from planning.errors import PlanError
from planning.rollout import Episode, episode_seed
from planning.skill_record import Candidate, SkillRecord

DRAW = np.random.default_rng(0)


def picture():
    return DRAW.integers(256, size=(8, 10, 3), dtype=np.uint8)


@pytest.fixture
def episode():
    chosen = Candidate(
        skills=("push", "pick_place"),
        targets=(None, 1),
        params=({"dx": 0.1}, {}),
        variants=(0, 2),
        energy=float("nan"),
        path_m=((0.1, 0.2, 1 / 3),),
    )
    record = SkillRecord(
        why="plan",
        executed=3,
        energy_now=0.25,
        chosen=chosen,
        candidates=[chosen],
        objects=[(0.1, 0.2, 0.0, None)],
        imagined_ND=DRAW.normal(size=(4, 3)).astype(np.float16),
        seconds={"encode": 0.1},
    )
    return Episode(
        task="push",
        seed=1_000_003,
        success=True,
        error_m=1 / 3,
        frames=[picture(), picture()],
        goals=[SubGoal("end", picture(), np.arange(7, dtype=np.float32), 12)],
        actions=[[0.1] * 7],
        energies=[0.1 + 0.2],
        sub_goals=[0],
        decisions=[record],
        imagined=[None, picture()],
        camera_34=DRAW.normal(size=(3, 4)),
        seconds={"plan": [0.1, 0.2]},
    )


def flat(episode):
    """Everything in an episode: JSON text, and its arrays."""
    arrays = []
    return json.dumps(_to_tree(episode, arrays)), arrays


def test_an_episode_comes_back_whole(episode, tmp_path):
    path = tmp_path / "episodes" / "a.npz"
    save_episode(path, episode)
    found = load_episode(path)
    (a, arrays_a), (b, arrays_b) = map(flat, (found, episode))
    assert a == b
    for one, other in zip(arrays_a, arrays_b, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert json.dumps(found.summary()) == json.dumps(episode.summary())
    assert found.decisions[0].imagined_ND.dtype == np.float16
    assert isinstance(found.decisions[0].chosen.targets, tuple)
    assert [p.name for p in path.parent.iterdir()] == ["a.npz"]


def test_what_is_no_episode_is_refused(episode, tmp_path):
    path = tmp_path / "a.npz"
    save_episode(path, episode)
    whole = path.read_bytes()
    trees = ({"kind": "Path", "fields": {}}, {"kind": "Candidate", "fields": {}}, {"array": 3}, 7)
    for tree in trees:
        np.savez(path, np.array(json.dumps(tree)))
        with pytest.raises(PlanError, match=r"a\.npz is not a complete episode"):
            load_episode(path)
    for data in (b"", whole[: len(whole) // 2], b"text"):
        path.write_bytes(data)
        with pytest.raises(PlanError, match=r"a\.npz is not a complete episode"):
            load_episode(path)
    np.savez(path, np.array([episode], dtype=object))  # pickled objects are not loaded
    with pytest.raises(PlanError, match="not a complete episode"):
        load_episode(path)


def test_a_torn_episode_is_named_and_runs_again_and_no_other(episode, tmp_path, caplog):
    kept = KeptEpisodes(tmp_path, 0)
    for index in range(3):
        kept.save("planner", replace(episode, seed=episode_seed(0, index)))
    torn = kept.path("planner", 1)
    torn.write_bytes(torn.read_bytes()[:100])
    assert kept.missing("planner", range(4)) == [1, 3]
    assert caplog.text.count("That episode runs again") == 1
    assert f"{torn} is not a complete episode" in caplog.text
    kept.save("planner", replace(episode, seed=episode_seed(0, 1)))
    assert kept.missing("planner", range(3)) == []


def test_damage_anywhere_is_named_or_changes_nothing(episode, tmp_path):
    path = tmp_path / "a.npz"
    save_episode(path, episode)
    whole, good = path.read_bytes(), flat(load_episode(path))
    for at in range(0, len(whole), 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            found = flat(load_episode(path))
        except PlanError as error:
            assert "a.npz" in str(error)  # noqa: PT017 - many bytes are of no importance
        else:
            assert found[0] == good[0]


@pytest.mark.parametrize("count", [10**13, 2**33])
def test_arrays_that_say_to_be_huge_take_no_memory(tmp_path, count):
    path, zeros = tmp_path / "a.npz", bytes(1 << 24)
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count},), }}"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("arr_0.npy", "w") as file,
    ):
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", 96) + header.ljust(96).encode())
        file.write(zeros)
    with pytest.raises(PlanError, match=r"a\.npz"):
        read_npz(path)
