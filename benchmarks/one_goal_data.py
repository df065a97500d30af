"""Data sets of the one-goal models, and their shares in each phase of each training."""

from __future__ import annotations

from dataclasses import dataclass

CONTACT = (
    "mix=contact objects=cube,box,cup,T,long_box objects_per_scene=0.8,0.2 walls=0.25 turned=0.6"
)
PUSH = "mix=push objects=cube,box,cup,T,long_box objects_per_scene=0.8,0.2 turned=0.6"
PAIRS = "mix=carry objects=cube,cube,box,cup,long_box objects_per_scene=0,1 turned=0.8"
POSE = "mix=carry task=push_pose objects=long_box,T"
PICK = "mix=carry task=pick_place objects=cube,cube,box,cup turned=0.3"
PAIR, WALL = "mix=carry task=two_objects", "mix=carry task=over_wall"


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A recording by `worldmodel collect`."""

    name: str
    words: str
    episodes: int
    seed: int
    cost_s: float
    """Estimated time of an episode on one core [s]."""


def _set(name: str, words: str, episodes: int, seed: int, cost_s: float = 0.25) -> DataSet:
    return DataSet(name=name, words=words, episodes=episodes, seed=seed, cost_s=cost_s)


VAL = _set("contact_val", CONTACT, 200, 900_000)
FIRST = (
    _set(
        "scenes",
        "mix=contact objects=long_box,long_box,long_box,T,T,cube,cube,box,cup length=3 "
        "objects_per_scene=0.6,0.4 walls=0.3 turned=0.9",
        14_000,
        4_000_000,
        0.06,
    ),
    _set("contact", CONTACT, 6_000, 0),
    _set("scenes_wall", "mix=carry task=over_wall length=3", 2_500, 4_200_000, 0.05),
    _set("scenes_pair", "mix=carry task=two_objects length=3", 2_000, 4_210_000, 0.05),
    _set(
        "scenes_pose",
        "mix=carry task=push_pose objects=long_box,long_box,T length=3",
        2_500,
        4_220_000,
        0.05,
    ),
    _set("contact_pairs", PAIRS, 600, 300_000),
    _set("carry_wall", WALL, 1_000, 7_000_000, 0.2),
    _set("carry_pose", POSE, 350, 7_100_000),
    _set("carry_pair", PAIR, 300, 7_200_000),
)
"""Recorded before the trainings, in this order."""
LATER = (
    _set("push", PUSH, 2_500, 5_000_000),
    _set("carry_wall_more", WALL, 1_200, 7_010_000, 0.2),
    _set("carry_pair_more", PAIR, 400, 7_210_000),
    _set("contact_more", CONTACT, 4_000, 520_000),
)
"""Recorded during phase 1, for phase 2."""

SHARES: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "one_goal_labelled": (
        {
            "scenes": 0.26,
            "scenes_wall": 0.05,
            "scenes_pair": 0.06,
            "scenes_pose": 0.06,
            "contact_pairs": 0.10,
            "carry_wall": 0.08,
            "carry_pose": 0.05,
            "carry_pair": 0.04,
        },
        {
            "contact_pairs": 0.05,
            "carry_wall": 0.22,
            "carry_pose": 0.10,
            "carry_pair": 0.04,
            "push": 0.10,
            "carry_wall_more": 0.22,
            "carry_pair_more": 0.04,
            "contact_more": 0.08,
        },
    ),
    "one_goal": (
        {"contact_pairs": 0.15, "carry_wall": 0.06, "carry_pose": 0.05, "carry_pair": 0.06},
        {
            "contact_pairs": 0.10,
            "carry_wall": 0.06,
            "carry_pose": 0.06,
            "carry_pair": 0.06,
            "push": 0.20,
            "contact_more": 0.20,
        },
    ),
}
"""Share of the clips by phase; the rest are those of `contact`."""
RECIPES = {
    "one_goal_labelled": ("sim_one_goal_labelled", "sim_one_goal_labelled_long"),
    "one_goal": ("sim_one_goal", "sim_one_goal_long"),
}
BATCH = (256, 512)
"""Clips of a step in each phase."""
RATE = (1e-3, 1e-3)
"""Peak learning rate of each phase."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A later phase of one_goal_labelled, which trains the predictor alone."""

    sets: dict[DataSet, tuple[float, ...]]
    """Data sets and their shares of the clips in each run; the rest are those of `LATER_BASE`."""
    runs: tuple[str, ...]
    """Names of the runs."""
    words: tuple[str, ...]
    """Length and peak learning rate of each run."""
    eval_every: tuple[int, ...]
    """Steps between evaluations of each run."""


LATER_VAL = _set("contact_val", CONTACT, 120, 900_000)
LATER_BASE = _set("contact", CONTACT, 1_600, 0)
PUSH2 = _set("push2", PUSH, 1_600, 5_100_000)
PAIRS2 = _set("contact_pairs2", PAIRS, 1_200, 310_000)
CARRY_PAIR2 = _set("carry_pair2", PAIR, 600, 7_210_000)
CARRY_WALL = _set("carry_wall", WALL, 700, 7_000_000)
CARRY_WALL2 = _set("carry_wall2", WALL, 700, 7_010_000)
CARRY_POSE2 = _set("carry_pose2", POSE, 400, 7_110_000)
PHASES = {
    3: Phase(
        sets={
            _set("push", PUSH, 1_600, 5_000_000): (0.13, 0.08),
            PUSH2: (0.13, 0.08),
            _set("push3", PUSH, 1_600, 5_200_000): (0.0, 0.08),
            _set("contact_pairs", PAIRS, 1_600, 300_000): (0.22, 0.11),
            PAIRS2: (0.0, 0.09),
            _set("carry_pair", PAIR, 200, 7_200_000): (0.03, 0.02),
            CARRY_PAIR2: (0.09, 0.05),
            _set("carry_pair3", PAIR, 800, 7_220_000): (0.0, 0.06),
            CARRY_WALL: (0.18, 0.10),
            CARRY_WALL2: (0.0, 0.10),
            _set("carry_pose", POSE, 300, 7_100_000): (0.10, 0.05),
            CARRY_POSE2: (0.0, 0.06),
        },
        runs=("first", "second"),
        words=("steps=2600 lr=6e-4", "steps=4000 lr=5e-4"),
        eval_every=(200, 250),
    ),
    4: Phase(
        sets={
            _set("carry_pick", PICK, 1_600, 1_505_000_000): (0.26,),
            PUSH2: (0.12,),
            PAIRS2: (0.08,),
            CARRY_PAIR2: (0.10,),
            CARRY_WALL: (0.11,),
            CARRY_WALL2: (0.11,),
            CARRY_POSE2: (0.10,),
        },
        runs=("third",),
        words=("steps=2000 lr=4e-4",),
        eval_every=(250,),
    ),
}
"""Phases of one_goal_predictor.py, by number."""
