"""The report of an evaluation, read as a browser reads it."""

import base64
import io
import json
from html.parser import HTMLParser

import av
import numpy as np
import pytest
from PIL import Image

from planning.goals import GoalPicture
from planning.report.camera import project
from planning.report.page import outcomes, write_report
from planning.report.plots import energy_map, short
from planning.report.video import h264_bytes, webp_bytes
from planning.report.views import beside_goals
from planning.rollout import Episode
from planning.skill_record import Candidate, SkillRecord

GREEN = (76, 127, 19)
CAMERA_34 = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1.0]])
"""Its image is the table's plane: u = x, v = y."""


class Page(HTMLParser):
    """Elements of a page and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data.strip())

    def all(self, tag, **wanted):
        wanted = {k.rstrip("_"): v for k, v in wanted.items()}
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]


def frame(value):
    out = np.full((32, 32, 3), 180, np.uint8)
    out[8:16, 8 + value : 16 + value] = GREEN
    return out


def candidate(vx, vy, path=()):
    energy = 0.2 + (vx - 0.05) ** 2 + vy**2
    params = ({"vx": vx, "vy": vy, "lateral": 0.001234},)
    return Candidate(
        skills=("push",), targets=(0,), params=params, variants=(0,), energy=energy, path_m=path
    )


def push_record():
    rng = np.random.default_rng(0)
    path = ((0.2, 0.3, 0.0), (0.4, 0.5, 0.0))
    rows = [candidate(*pair) for pair in rng.uniform(-0.1, 0.1, (40, 2))]
    rows.sort(key=lambda row: row.energy)
    chosen = candidate(0.05, 0.0, path)
    return SkillRecord(
        why="plan",
        executed=3,
        energy_now=0.7654321,
        rest_energy=0.8,
        chosen=chosen,
        candidates=[chosen, candidate(0.04, 0.01, path), *rows],
        objects=[(0.5, 0.1, 0.02, None)],
        goals=[(0.6, 0.1, 0.02, None)],
        imagined_ND=np.zeros((1, 4), np.float16),
        seconds={"unroll": 0.51234567},
    )


def episode(seed, success, task="push"):
    home = SkillRecord(why="reached", executed=2, step=3, energy_now=0.1)
    return Episode(
        task,
        seed,
        success=success,
        error_m=0.0123456789,
        reason="" if success else "object ended 8.0 cm from the target",
        frames=[frame(i) for i in range(6)],
        goals=[GoalPicture("the <end>", frame(9), np.zeros(7, np.float32), 5)],
        actions=[[0.0] * 7] * 5,
        energies=[0.5, 0.4, 0.3, 0.2, 0.1],
        sub_goals=[0] * 5,
        decisions=[push_record(), home],
        imagined=[frame(7), None],
        imagined_text="imagined end, decoded",
        camera_34=CAMERA_34,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    episodes = [episode(1, True), episode(2, False), episode(3, True)]
    others = {"geometry": [episode(1, False), episode(2, False)]}
    summary = {"successes": 2, "rate": 2 / 3, "final_error_m": {"median": 0.0123456789}}
    text = write_report(folder, "A title", summary, episodes, others).read_text()
    return folder, text, Page(text)


def test_it_is_one_page_without_other_hosts(written):
    _, text, page = written
    assert "http" not in text
    sources = [a[k] for _, a in page.elements for k in ("src", "href") if k in a]
    assert all(s.startswith(("data:", "#")) for s in sources)
    assert "the &lt;end&gt;" in text
    assert page.all("meta", name="viewport")
    assert "prefers-color-scheme:dark" in text


def test_failures_come_first_with_their_reason(written):
    _, _, page = written
    assert [a["id"] for a in page.all("section")] == ["push-2", "push-1", "push-3"]
    gallery = [a["href"] for a in page.all("a")]
    assert gallery == ["#push-2", "#push-1", "#push-3"]
    assert page.words.count("failure: object ended 8.0 cm from the target") >= 2
    assert page.words.count("geometry") == 2  # the baseline in the same scene


def test_episodes_of_two_tasks_with_one_seed_are_told_apart(tmp_path):
    episodes = [episode(1, True, "push"), episode(1, True, "pick_place")]
    others = {"geometry": [episode(1, False, "push"), episode(1, True, "pick_place")]}
    page = Page(write_report(tmp_path, "A title", {}, episodes, others).read_text())
    assert [a["id"] for a in page.all("section")] == ["push-1", "pick_place-1"]
    assert page.words.count("failure: object ended 8.0 cm from the target") == 1
    assert "pick place 1:" in page.words


def test_a_decision_shows_what_was_imagined_beside_what_happened(written):
    _, text, page = written
    assert page.words.count("imagined end, decoded") == 3
    assert page.words.count("what then happened, 5 actions later") == 3  # the arm is back at home
    assert any("goes home: the decoded objects are at their goals" in w for w in page.words)
    best = page.all("polyline", class_="best")
    assert [a["points"] for a in best] == ["20.0,30.0 40.0,50.0"] * 3
    arrow = page.all("line", class_="aim")[0]
    assert [arrow[k] for k in ("x1", "y1", "x2", "y2")] == ["50.0", "10.0", "60.0", "10.0"]
    assert "Cross: geometry" in text
    assert "lateral 0.1 cm" in text


def test_the_imagined_end_in_force_is_between_camera_and_goal():
    shown = episode(1, True)
    shown.imagined = [np.full((16, 16, 3), 90, np.uint8), None]
    plain, wide = beside_goals(shown), beside_goals(shown, imagined=True)
    assert len(plain) == len(wide) == 6
    for pair, row in zip(plain, wide, strict=True):
        assert np.array_equal(row[:, :32], pair[:, :32])
        assert (row[:, 32:64] == 90).all()  # of the last decision that imagined anything
        assert np.array_equal(row[:, 64:], pair[:, 32:])
    shown.imagined = [None, None]
    assert not beside_goals(shown, imagined=True)[0][:, 32:64].any()


def test_numbers_are_short_and_the_raw_ones_folded_away(written):
    folder, _, page = written
    shown = []
    text = (folder / "report.html").read_text()
    for part in text.split("<details>"):
        shown.append(part.split("</details>")[-1])
    assert "0.0123456789" not in "".join(shown)
    assert "0.0123456789" in text
    rows = (folder / "episodes.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["seed"] == 1
    assert len(json.loads(rows[0])["decisions"][0]["candidates"]) == 42
    assert page.all("summary")


def test_rates_of_planner_and_baselines_are_one_table():
    def rates(successes):
        error_m = {"median": 0.01 * successes, "p95": None}
        return {"successes": successes, "episodes": 3, "ci95": [0.1, 0.9], "final_error_m": error_m}

    summary = {
        "task": "push",
        **rates(2),
        "success_rate": 0.67,
        "baselines": {"pose_only": rates(1)},
    }
    planner = ("planner", "2 of 3", "10 to 90 %", "2.0 / unknown")
    baseline = ("pose only", "1 of 3", "10 to 90 %", "1.0 / unknown")
    assert outcomes(summary) == [("push", *planner), ("push", *baseline)]
    tasks = {"pick_place": {"planner": rates(2)}}
    assert outcomes(summary | {"tasks": tasks})[:2] == [("pick place", *planner), ("all", *planner)]
    assert outcomes(summary | {"ci95": None}) == outcomes({}) == []


def test_the_video_of_the_page_decodes_with_its_colours(written):
    _, _, page = written
    source = page.all("video")[0]["src"]
    kind, _, content = source.partition(";base64,")
    assert kind == "data:video/mp4"
    with av.open(io.BytesIO(base64.b64decode(content))) as file:
        frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    assert len(frames) == 6
    height, width = frames[0].shape[:2]
    assert (height, width) == (96, 192)  # camera and goal side by side, three times as large
    assert np.abs(frames[2][36, 36].astype(int) - GREEN).max() < 12


def test_h264_and_webp_keep_the_number_of_frames_and_the_colours():
    frames = [np.broadcast_to(np.uint8(GREEN), (9, 7, 3)) for _ in range(3)]
    with av.open(io.BytesIO(h264_bytes(frames, scale=1))) as file:
        films = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    assert [f.shape for f in films] == [(10, 8, 3)] * 3  # sides of H.264 are even
    assert np.abs(films[0][2, 2].astype(int) - GREEN).max() < 6
    picture = Image.open(io.BytesIO(webp_bytes([frame(i) for i in range(4)], scale=4)))
    assert picture.n_frames == 4
    assert np.abs(np.array(picture.convert("RGB"))[44, 44].astype(int) - GREEN).max() < 8


def test_the_map_marks_the_choice_and_geometry():
    plot = energy_map(push_record())
    assert plot.x.label == "displacement x [cm]"
    assert plot.chosen == (plot.x.px(5.0), plot.y.px(0.0))
    assert plot.geometry == (plot.x.px(10.0), plot.y.px(0.0))
    at, text = plot.x.ticks[1]
    assert at == plot.x.px(float(text))
    best = min(plot.points, key=lambda point: float(point[3]))
    assert best[2] == 0


def test_points_behind_the_camera_are_not_drawn():
    camera_34 = np.array([[0.5, 0, 0.5, 0], [0, 0.5, 0.5, 0], [0, 0, 1.0, 0]])
    found = project(camera_34, np.array([[0, 0, 2.0], [1, 0, 1.0], [0, 0, -1.0]]))
    np.testing.assert_allclose(found[:2], [[0.5, 0.5], [1.0, 0.5]])
    assert np.isnan(found[2]).all()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456789, "0.0123"),
        (12345.678, "12346"),
        (0.0, "0"),
        (float("nan"), "unknown"),
        (None, "unknown"),
        (1e-9, "1e-09"),
        (-0.5, "-0.5"),
    ],
)
def test_short_numbers(value, text):
    assert short(value) == text
