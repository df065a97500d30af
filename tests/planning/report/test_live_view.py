"""The page of a drive, over real HTTP."""

import io
import json
import urllib.error
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from planning.driving import NotSent, Step
from planning.errors import DriveError
from planning.protocols import Decision
from planning.report.live_view import LiveView
from robot.arm import Reason


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.headers, answer.read()


def step(index, energy):
    camera = np.full((12, 16, 3), 40 + index, np.uint8)
    frame = SimpleNamespace(image=camera, time_s=1.0)
    state = SimpleNamespace(state=np.zeros(7), q=np.zeros(7), time_s=2.0)
    decision = Decision(
        action=np.full(7, 0.01),
        sub_goal=0,
        energy=energy,
        imagined=0.1,
        seconds={"plan": 0.2},
        plan=[[0.01] * 7],
    )
    sent = NotSent(
        np.zeros(7), np.zeros(7), (Reason("step", "0.200 m, at most 0.075"),), refused=False
    )
    return Step(index, frame, camera, state, decision, sent, {"plan": 0.2})


@pytest.fixture
def view():
    with LiveView() as view:
        yield view


def test_the_page_and_its_parts_before_and_after_a_step(view):
    headers, page = get(view.url)
    assert headers["Content-Type"].startswith("text/html")
    assert b"camera" in page
    assert json.loads(get(view.url + "state.json")[1])["count"] == 0
    goal = SimpleNamespace(image=np.full((12, 16, 3), 200, np.uint8), name="over the cube")
    view.begin([goal])
    view.step(step(0, 0.5))
    view.step(step(1, float("nan")))
    headers, body = get(view.url + "state.json")
    said = json.loads(body, parse_constant=pytest.fail)  # as strict as a browser
    assert headers["Content-Type"] == "application/json"
    assert (said["count"], said["goal"]) == (2, "over the cube")
    assert said["energies"] == [0.5, None]
    assert said["row"]["reasons"] == ["step: 0.200 m, at most 0.075"]
    assert "step 1" in said["text"]
    for name, value in (("camera", 41), ("goal", 200)):
        headers, body = get(f"{view.url}{name}.png?2")
        assert headers["Content-Type"] == "image/png"
        assert headers["Cache-Control"] == "no-store"
        shown = np.array(Image.open(io.BytesIO(body)))
        assert shown.shape == (12, 16, 3)
        assert (shown == value).all()


def test_nothing_else_is_served_and_the_last_look_is_shown(view):
    with pytest.raises(urllib.error.HTTPError) as error:
        get(view.url + "etc/passwd")
    assert error.value.code == 404
    view.begin([])
    last = step(3, 0.0)
    view.step(Step(3, last.frame, last.image, last.state, None, None, {}))
    assert json.loads(get(view.url + "state.json")[1])["row"]["last"]


def test_a_taken_port_says_the_mend_and_closing_ends_the_page():
    view = LiveView()
    with pytest.raises(DriveError, match="port=0"):
        LiveView(port=view.server.server_address[1])
    view.close()
    with pytest.raises(OSError, match=r"."):
        get(view.url)
