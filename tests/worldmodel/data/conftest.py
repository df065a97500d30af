"""The same episodes in all four layouts."""

import pytest

from tests.worldmodel.data.other_layouts import SIZE, write_lerobot, write_rlds
from worldmodel.data.writers.synthetic import draw_episode, random_states


@pytest.fixture(scope="session")
def layouts(tmp_path_factory):
    """The same two episodes in all four layouts: name -> root; and their states."""
    root = tmp_path_factory.mktemp("layouts")
    episodes = [random_states(steps, seed) for seed, steps in enumerate((64, 70))]
    roots = {name: root / name for name in ("droid", "rlds", "v2.1", "v3.0")}
    for number, states in enumerate(episodes):
        draw_episode(roots["droid"], f"e{number}", states, size=SIZE, cameras=("left", "right"))
    write_rlds(roots["rlds"], episodes)
    for version in ("v2.1", "v3.0"):
        write_lerobot(roots[version], episodes, version)
    return roots, episodes
