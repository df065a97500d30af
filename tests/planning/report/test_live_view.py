"""The page of a drive, over real HTTP."""

import dataclasses
import io
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from planning.driving import NotSent, Step
from planning.errors import DriveError
from planning.protocols import Decision
from planning.report import live_view, page_server
from planning.report.live_view import LiveView
from planning.skill_record import Candidate, SkillRecord
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
    for label in (b"dx [cm]", b"rx [deg]", b"'energy'", b"'step'"):
        assert label in page  # axes and columns have units
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
    assert said["first"] == 0
    assert said["row"]["reasons"] == ["step: 0.200 m, at most 0.075"]
    assert "step 1" in said["text"]
    for name, value in (("camera", 41), ("goal", 200)):
        headers, body = get(f"{view.url}{name}.png?2")
        assert headers["Content-Type"] == "image/png"
        assert headers["Cache-Control"] == "no-store"
        shown = np.array(Image.open(io.BytesIO(body)))
        assert shown.shape == (12, 16, 3)
        assert (shown == value).all()


def looked(index, tokens_ND, **facts):
    """A step that begins with a decision about skills."""
    skills = SkillRecord(
        why="plan",
        executed=9,
        energy_now=0.2,
        rest_energy=0.3,
        chosen=Candidate(
            skills=("pick_place",),
            targets=(0,),
            params=({"vx": 0.104, "lift": 0.07},),
            variants=(0,),
            energy=0.05,
        ),
        imagined_ND=tokens_ND,
    )
    plain = step(index, 0.2)
    decision = dataclasses.replace(plain.decision, skills=dataclasses.replace(skills, **facts))
    return dataclasses.replace(plain, decision=decision)


def test_the_imagined_end_of_a_search_is_decoded_once_and_shown_until_the_next(monkeypatch):
    calls = []

    def imagine(tokens_ND, image):
        calls.append(image.shape)
        return np.full((12, 16, 3), int(tokens_ND[0, 0]), np.uint8)

    goal = SimpleNamespace(image=np.full((12, 16, 3), 200, np.uint8), name="goal")
    with LiveView(imagine=imagine) as view:
        view.begin([goal])
        assert json.loads(get(view.url + "state.json")[1])["imagined"] is None
        view.step(looked(0, np.full((1, 4), 90, np.float16)))
        view.step(step(1, 0.2))
        said = json.loads(get(view.url + "state.json")[1])
        assert (said["count"], said["imagined"]) == (2, 1)
        assert said["skills"][0].startswith("pick place: displacement x 10.4 cm")
        assert "imagined end 0.05" in "; ".join(said["skills"])
        assert not calls  # nothing is decoded that nobody asks for
        for _ in range(3):
            shown = np.array(Image.open(io.BytesIO(get(view.url + "imagined.png?1")[1])))
            assert (shown == 90).all()
        assert calls == [(12, 16, 3)]
        view.step(looked(2, None, why="reached", chosen=None))
        said = json.loads(get(view.url + "state.json")[1])
        assert said["imagined"] is None
        assert said["skills"][0].startswith("goes home")
        view.begin([goal])
        view.step(step(0, 0.2))
        assert json.loads(get(view.url + "state.json")[1])["skills"] == []


def test_without_a_decoder_the_page_has_no_imagined_end(view):
    view.begin([SimpleNamespace(image=np.zeros((12, 16, 3), np.uint8), name="goal")])
    view.step(looked(0, np.zeros((1, 4), np.float16)))
    said = json.loads(get(view.url + "state.json")[1])
    assert said["imagined"] is None
    assert said["skills"]


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


def port_of(view):
    return view.server.server_address[1]


def path_of(view, part=""):
    return f"/{view.server.token}/{part}"


def ask(view, path, *hosts, also=()):
    """Status line and body of one request over a plain socket."""
    with socket.create_connection(("127.0.0.1", port_of(view)), timeout=30) as link:
        lines = [f"GET {path} HTTP/1.1", *(f"Host: {host}" for host in hosts), *also, "", ""]
        link.sendall("\r\n".join(lines).encode())
        answer = b"".join(iter(lambda: link.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:{port}.evil.example",
        "127.0.0.1:1",
        "0.0.0.0:{port}",
        "[::1]:{port}",
        "user@127.0.0.1:{port}",
        "",
    ],
)
def test_a_name_that_was_rebound_to_this_machine_reads_nothing(view, host):
    for part in ("", "state.json", "camera.png", "goal.png"):
        status, body = ask(view, path_of(view, part), host.format(port=port_of(view)))
        assert status == 403
        assert b"worldmodel drive" in body
        assert len(body) < 200


def test_no_host_and_two_hosts_are_refused(view):
    own = f"127.0.0.1:{port_of(view)}"
    assert ask(view, path_of(view), own)[0] == 200
    assert ask(view, path_of(view), f"localhost:{port_of(view)}")[0] == 200
    assert ask(view, path_of(view))[0] == 403
    assert ask(view, path_of(view), own, "evil.example")[0] == 403
    assert ask(view, f"http://evil.example{path_of(view)}", own)[0] == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:{port}", 200),
        ("http://localhost:{port}", 200),
        ("http://evil.example", 403),
        ("http://127.0.0.1:{port}.evil.example", 403),
        ("https://127.0.0.1:{port}", 403),
        ("http://127.0.0.1:1", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_script_of_another_page_reads_nothing_even_with_the_token(view, origin, status):
    own, header = f"127.0.0.1:{port_of(view)}", f"Origin: {origin.format(port=port_of(view))}"
    assert ask(view, path_of(view, "state.json"), own, also=[header])[0] == status
    if status == 200:
        assert ask(view, path_of(view, "state.json"), own, also=[header, header])[0] == 403


def test_the_token_is_needed_and_is_another_one_each_time(view):
    own = f"127.0.0.1:{port_of(view)}"
    token = view.server.token
    assert len(token) >= 20
    for path in ("/", "/state.json", "//state.json", f"/{token[:-1]}/", f"/{token}x/state.json"):
        assert ask(view, path, own)[0] == 403
    assert ask(view, "/\xff/state.json", own)[0] == 403
    assert ask(view, path_of(view, "state.json"), own)[0] == 200
    with LiveView() as other:
        assert other.server.token != token


def test_it_listens_on_the_loopback_interface_only(view):
    assert view.server.server_address[0] == "127.0.0.1"
    assert re.fullmatch(rf"http://127\.0\.0\.1:{port_of(view)}/[\w-]+/", view.url)


def half_requests(view, count):
    links = [socket.create_connection(("127.0.0.1", port_of(view))) for _ in range(count)]
    for link in links:
        link.sendall(b"GET / HTTP/1.1\r\nHost: ")
    return links


def wait_until(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def serving_threads(before):
    return [thread for thread in threading.enumerate() if thread not in before]


def test_half_requests_hold_a_bounded_number_of_threads_and_the_page_answers(view):
    before = set(threading.enumerate())
    links = half_requests(view, 3 * page_server.MAX_CLIENTS)
    wait_until(lambda: len(view.server.open) == page_server.MAX_CLIENTS)
    for index in range(5):  # the page's own requests push the oldest half requests out
        view.step(step_without_goal(index))
        assert ask(view, path_of(view, "state.json"), f"127.0.0.1:{port_of(view)}")[0] == 200
    wait_until(lambda: len(serving_threads(before)) <= page_server.MAX_CLIENTS)
    assert len(view.server.open) <= page_server.MAX_CLIENTS
    for link in links:
        link.close()


def step_without_goal(index):
    last = step(index, 0.0)
    return Step(index, last.frame, last.image, last.state, None, None, {})


def test_a_request_that_drips_ends_at_its_deadline(view, monkeypatch):
    monkeypatch.setattr(page_server, "REQUEST_S", 0.5)
    before = set(threading.enumerate())
    (link,) = half_requests(view, 1)
    wait_until(lambda: len(serving_threads(before)) == 1)

    def is_closed():
        try:
            link.sendall(b"x")  # one byte at a time keeps a plain socket timeout from firing
        except OSError:
            return True
        return False

    wait_until(is_closed)
    wait_until(lambda: not serving_threads(before))
    assert not view.server.open
    link.close()


def test_a_reader_that_stops_reading_ends_too_and_steps_never_wait(view, monkeypatch):
    monkeypatch.setattr(page_server, "REQUEST_S", 0.5)
    before = set(threading.enumerate())
    view.server.parts["state.json"] = lambda: ("application/json", bytes(50_000_000))
    link = socket.create_connection(("127.0.0.1", port_of(view)))
    own = f"127.0.0.1:{port_of(view)}"
    link.sendall(f"GET {path_of(view, 'state.json')} HTTP/1.1\r\nHost: {own}\r\n\r\n".encode())
    wait_until(lambda: len(serving_threads(before)) == 1)
    steps = threading.Thread(target=lambda: [view.step(step_without_goal(i)) for i in range(100)])
    steps.start()
    steps.join(60)
    assert not steps.is_alive()
    assert view.now.count == 100
    wait_until(lambda: not serving_threads(before))
    link.close()


def test_a_step_s_images_are_compressed_once(view, monkeypatch):
    calls = []
    monkeypatch.setattr(live_view, "png_bytes", lambda image, scale: calls.append(scale) or b"png")
    view.step(step_without_goal(0))
    for _ in range(5):
        assert get(view.url + "camera.png")[1] == b"png"
    assert len(calls) == 1


def test_closing_ends_open_connections():
    before = set(threading.enumerate())
    view = LiveView()
    links = half_requests(view, 3)
    wait_until(lambda: len(view.server.open) == 3)
    view.close()
    wait_until(lambda: not serving_threads(before))
    for link in links:
        assert link.recv(100) == b""
        link.close()
