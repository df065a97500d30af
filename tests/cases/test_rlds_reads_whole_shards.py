"""Opening an RLDS episode reads about its own bytes, and open episodes are bounded in bytes."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.worldmodel.data.other_layouts import SHARD, write_rlds
from worldmodel.data.dataset import open_row
from worldmodel.data.episode_cache import EpisodeCache, size_of
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.writers.synthetic import random_states


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    root = tmp_path_factory.mktemp("rlds")
    write_rlds(root / "in", [random_states(8, seed) for seed in range(16)])
    build_index(root / "in", root / "out", workers=1)
    return open_manifest(root / "out")


def bytes_read():
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="counts bytes in /proc")
def test_the_bytes_of_one_episode_are_read(manifest):
    size = (manifest.root / SHARD).stat().st_size / len(manifest.rows)
    order = np.random.default_rng(0).permutation(len(manifest.rows))
    open_row(manifest, manifest.rows[0])
    before = bytes_read()
    for number in order:
        open_row(manifest, manifest.rows[number])
    assert (bytes_read() - before) / len(order) <= 1.2 * size


def test_memory_is_bounded_in_bytes(manifest):
    size = size_of(open_row(manifest, manifest.rows[0]))
    cache = EpisodeCache(lambda n: open_row(manifest, manifest.rows[n]), int(3.5 * size))
    for number in range(len(manifest.rows)):
        cache(number)
        assert cache.num_bytes <= cache.max_bytes
