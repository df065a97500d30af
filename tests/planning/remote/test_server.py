"""`worldmodel serve`: plans for openpi's clients, access, limits, and clients that do harm."""

import dataclasses
import shlex
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request

import msgpack
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.sync.client import connect

from planning.apps.plan_fields import arm_of
from planning.apps.policies import open_policy
from planning.errors import DriveError, PlanError
from planning.planner import Memory
from planning.planner_options import GoalPlannerOptions
from planning.remote.client import PlanConnection
from planning.remote.policy import ARM_FIELDS
from planning.remote.wire import pack
from planning.serve_options import ListenOptions, RemoteOptions
from robot.arm import ArmSpec
from robot.kinematics import flange_pose
from robot.pose import matrix_to_euler
from tests.planning.remote.serving import TIMEOUT_S, OpenpiClient, pack_array, serving, wait_for
from tests.planning.remote.test_wire import HOSTILE

OPENSSL = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=planner "
    "-addext subjectAltName=IP:127.0.0.1"
)
JOINTS = np.array([0.0, -0.1, 0.0, -2.3, 0.0, 2.2, 0.785])
STATE = np.concatenate(
    [flange_pose(JOINTS)[:3, 3], matrix_to_euler(flange_pose(JOINTS)[:3, :3]), [0.0]]
)
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
SEEN = {"image": IMAGE, "state": STATE.astype(np.float32), "goal": IMAGE[:, ::-1].copy()}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    with serving(folder, "max_clients=6", "max_message_mb=4") as served:
        yield served


def refused(client, message):
    answer = client.send(
        message if isinstance(message, bytes) else msgpack.packb(message, default=pack_array)
    )
    assert isinstance(answer, str), answer
    assert "Traceback" not in answer
    return answer


def test_the_plan_is_the_one_of_this_machine(server):
    policy = open_policy(
        "default", GoalPlannerOptions(samples=16, iterations=2, elites=4), device="cpu"
    )
    goal = policy.encode(SEEN["goal"])
    plan, _ = policy.plan(SEEN, goal, Memory.start(0))
    with OpenpiClient(server.url) as client:
        found = client.infer(SEEN)
    assert client.metadata["model"] == "default"
    assert client.metadata["action"]["action_dim"] == 7
    assert found["actions"].shape == tuple(plan.actions_KA.shape)
    assert np.allclose(found["actions"], plan.actions_KA.numpy(), atol=1e-6)
    assert found["imagined"] == pytest.approx(plan.energy, abs=1e-5)
    assert found["server_timing"]["infer_ms"] > 0


def test_droids_observation_gives_the_same_plan(server):
    droid = {
        "observation/exterior_image_1_left": IMAGE,
        "observation/wrist_image_left": IMAGE,
        "observation/joint_position": JOINTS,
        "observation/gripper_position": np.zeros(1),
        "prompt": "move the cup",
        "goal": SEEN["goal"],
    }
    with OpenpiClient(server.url) as a, OpenpiClient(server.url) as b:
        first, second = a.infer(SEEN)["actions"], b.infer(droid)["actions"]
        later = b.infer(droid)
    assert np.allclose(first, second, atol=1e-6)
    assert "prev_total_ms" in later["server_timing"]


def test_openpis_own_client(server):
    policy = pytest.importorskip("openpi_client.websocket_client_policy")
    client = policy.WebsocketClientPolicy("127.0.0.1", server.port)
    assert client.infer(SEEN)["actions"].shape[1] == 7


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_harm_neither_the_connection_nor_others(name, server):
    with OpenpiClient(server.url) as hostile, OpenpiClient(server.url) as other:
        first = other.infer(SEEN)["actions"]
        assert "message" in refused(hostile, HOSTILE[name])
        assert np.array_equal(hostile.infer(SEEN)["actions"], first)
        assert other.infer(SEEN)["actions"].shape == first.shape


NAN = STATE.copy()
NAN[2] = np.nan
WRONG = {
    "no image": ({"state": STATE, "goal": IMAGE}, "'image'"),
    "float image": (SEEN | {"image": IMAGE / 255.0}, "uint8"),
    "channels first": (SEEN | {"image": IMAGE.transpose(2, 0, 1).copy()}, "channels last"),
    "no pixels": (SEEN | {"image": np.zeros((0, 3, 3), np.uint8)}, "uint8"),
    "wide": (SEEN | {"image": np.zeros((1, 5000, 3), np.uint8)}, "4096"),
    "image is a text": (SEEN | {"image": "a.png"}, "uint8"),
    "goal is a list": (SEEN | {"goal": [[0] * 3] * 3}, "uint8"),
    "NaN": (SEEN | {"state": NAN}, "NaN"),
    "infinite": (SEEN | {"state": np.full(7, np.inf)}, "NaN or infinity"),
    "millimetres": (SEEN | {"state": STATE * 1000}, "millimetres"),
    "eight numbers": (SEEN | {"state": np.zeros(8)}, "7 finite numbers"),
    "words": (SEEN | {"state": ["a"] * 7}, "7 finite numbers"),
    "ragged": (SEEN | {"state": [[0.0], 1.0]}, "7 finite numbers"),
    "degrees": (
        {"image": IMAGE, "goal": IMAGE, "observation/joint_position": JOINTS * 57}
        | {"observation/gripper_position": 0.0},
        "radians",
    ),
    "no gripper": (
        {"image": IMAGE, "goal": IMAGE, "observation/joint_position": JOINTS},
        "gripper_position",
    ),
    "unknown request": ({"request": "run", "code": "1"}, "Known: connect"),
    "request of a list": ({"request": [1]}, "text"),
    "act before begin": ({"request": "act", "image": IMAGE, "state": STATE}, "begin"),
    "begin without goals": ({"request": "begin", "seed": 1}, "goal"),
    "no steps": ({"request": "goal", "name": "a", "image": IMAGE, "steps": 0}, "steps"),
    "arm of a number": ({"request": "connect", "arm": 3}, "arm"),
    "other period": (
        {"request": "connect", "arm": {"period_s": 0.1, "max_step_m": 0.05}},
        "wrong speed",
    ),
    "NaN period": (
        {"request": "connect", "arm": {"period_s": float("nan"), "max_step_m": 0.05}},
        "period_s",
    ),
    "unknown field": ({"request": "connect", "arm": {"speed": 1}}, "unknown fields"),
    "gripper of another kind": (
        {"request": "connect", "arm": {"period_s": 0.25, "max_step_m": 0.05, "gripper": "open"}},
        "command, difference",
    ),
    "long hand": (
        {"request": "connect", "arm": {"period_s": 0.25, "max_step_m": 0.05, "flange_to_tcp_m": 2}},
        "flange_to_tcp_m",
    ),
    "box of NaN": (
        {
            "request": "connect",
            "arm": {"period_s": 0.25, "max_step_m": 0.05},
            "box_m": [[0, 0, 0], [1, 1, float("nan")]],
        },
        "NaN",
    ),
    "axes that shear": (
        {
            "request": "connect",
            "arm": {"period_s": 0.25, "max_step_m": 0.05},
            "axes": [[1, 1], [0, 1]],
        },
        "rotation",
    ),
}


def test_every_convention_of_an_arm_reaches_the_server():
    arm = ArmSpec(
        period_s=0.2,
        state_frame="tcp",
        state_dim=4,
        action_dim=4,
        gripper="difference",
        max_step_m=0.02,
        max_rotation_rad=0.1,
        flange_to_tcp_m=0.17,
        camera="wrist",
    )
    assert all(getattr(arm, f.name) != f.default for f in dataclasses.fields(arm))
    assert arm_of({name: getattr(arm, name) for name in ARM_FIELDS}) == arm


def test_wrong_messages_are_answered_in_words(server):
    with OpenpiClient(server.url) as client:
        for name, (message, words) in WRONG.items():
            assert words in refused(client, message), name
        client.ws.send("a text")
        assert "packed bytes" in client.ws.recv(timeout=TIMEOUT_S)
        assert client.infer(SEEN)["actions"].shape == (1, 7)


def test_a_message_that_is_too_large_ends_its_own_connection(server):
    with OpenpiClient(server.url) as other:
        client = OpenpiClient(server.url)
        with pytest.raises(ConnectionClosed):
            client.send(bytes(5 * 2**20))
        assert other.infer(SEEN)["actions"].shape == (1, 7)


def test_a_client_that_leaves_during_its_plan_harms_nobody(server):
    with OpenpiClient(server.url) as other:
        for _ in range(8):
            client = wait_for("a free place", lambda: attempt(server.url))
            client.ws.send(msgpack.packb(SEEN, default=pack_array))
            client.ws.close_socket()
        assert other.infer(SEEN)["actions"].shape == (1, 7)
    assert "Traceback" not in server.log.read_text()


def attempt(url):
    """Return a client, or None while others have not left yet."""
    return OpenpiClient(url) if status(url) == 101 else None


def status(url, **more):
    try:
        connect(url, open_timeout=TIMEOUT_S, **more).close()
    except InvalidStatus as error:
        return error.response.status_code
    except (InvalidMessage, ConnectionClosed):  # closed before an answer
        return 0
    return 101


def test_browsers_and_other_host_names_are_refused(server):
    assert status(server.url, origin="http://localhost") == 403
    assert status(server.url) == 101
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=60) as answer:
        assert answer.read() == b"OK\n"
    rebound = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/healthz", headers={"Host": f"evil.com:{server.port}"}
    )
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(rebound, timeout=60)


def test_clients_are_counted_and_a_further_one_is_told(server):
    clients = [wait_for("a free place", lambda: attempt(server.url)) for _ in range(6)]
    assert status(server.url) == 503
    clients.pop().ws.close()
    wait_for("a free place", lambda: status(server.url) == 101)
    for client in clients:
        client.ws.close()


def ended(connection):
    """Return whether a connection is closed or reset by the server."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_connections_without_a_handshake_are_bounded_and_end(server):
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
    for one in silent:
        one.settimeout(TIMEOUT_S)
    assert [ended(one) for one in silent[-20:]] == [True] * 20  # closed at once
    wait_for("the end of silent connections", lambda: status(server.url) == 101)
    assert ended(silent[0])  # closed after HANDSHAKE_S
    for one in silent:
        one.close()


def test_a_token_is_required_and_made(tmp_path):
    file = tmp_path / "new" / "token"
    with serving(tmp_path, f"token_file={file}", "idle_s=2") as served:
        token = file.read_text().strip()
        assert len(token) > 30
        assert file.stat().st_mode & 0o077 == 0
        assert token not in served.log.read_text()
        for wrong in (None, "x", token[:-1], token + "x", "\u00e9"):
            with pytest.raises((InvalidStatus, UnicodeEncodeError)):
                OpenpiClient(served.url, wrong)
        client = OpenpiClient(served.url, token)
        assert client.infer(SEEN)["actions"].shape == (1, 7)
        with pytest.raises(ConnectionClosed, match="idle_s"):
            client.ws.recv(timeout=TIMEOUT_S)
        with pytest.raises(DriveError, match="401 Present the server's token"):
            PlanConnection(RemoteOptions(policy=served.url))
        PlanConnection(RemoteOptions(policy=served.url, token_file=str(file))).close()


def certificate(folder):
    """Return a certificate for 127.0.0.1 and its key, as docs/serve.md makes them."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [*shlex.split(OPENSSL), *["-keyout", str(key), "-out", str(cert)]],
        check=True,
        capture_output=True,
    )
    return cert, key


def test_tls(tmp_path):
    cert, key = certificate(tmp_path)
    with serving(tmp_path, f"tls_cert={cert}", f"tls_key={key}") as served:
        assert served.url.startswith("wss://")
        with OpenpiClient(served.url, ssl=ssl.create_default_context(cafile=cert)) as client:
            assert client.infer(SEEN)["actions"].shape == (1, 7)
        with pytest.raises(DriveError, match="tls_ca=FILE"):
            PlanConnection(RemoteOptions(policy=served.url))
        plain = served.url.replace("wss", "ws")
        with pytest.raises(DriveError, match="plan server ws://"):
            PlanConnection(RemoteOptions(policy=plain))
        trusted = RemoteOptions(policy=served.url, tls_ca=str(cert), heartbeat_s=60)
        connection = PlanConnection(trusted)
        assert connection.hello["server"] == "worldmodel"
        with pytest.raises(PlanError, match="refused: request='x' is unknown"):
            connection.ask({"request": "x"})
        connection.close()


def test_several_clients_share_calls_and_get_their_own_plans(tmp_path):
    """Joint calls round differently; each client's plan stays its own."""
    seen = [SEEN | {"goal": np.roll(SEEN["goal"], 9 * i, axis=1)} for i in range(4)]
    with serving(tmp_path) as served, OpenpiClient(served.url) as client:
        alone = [client.infer(one | {"reset": True})["actions"] for one in seen]
    with serving(tmp_path, "batch_window_s=0.05") as served:
        clients, together = [OpenpiClient(served.url) for _ in seen], {}

        def plan(i):
            for _ in range(3):
                together[i] = clients[i].infer(seen[i] | {"reset": True})["actions"]

        threads = [threading.Thread(target=plan, args=[i]) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client in clients:
            client.ws.close()
    for i in range(4):
        assert np.allclose(together[i], alone[i], atol=1e-3), i


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"host": "0.0.0.0"}, "token_file"),
        ({"host": "192.168.1.2"}, "token_file"),
        ({"host": "::"}, "token_file"),
        ({"host": "example.org"}, "token_file"),
        ({"tls_cert": "a.pem"}, "belong together"),
        ({"max_clients": 0}, "max_clients"),
        ({"idle_s": float("nan")}, "idle_s"),
    ],
)
def test_options_that_are_refused(options, words):
    with pytest.raises(PlanError, match=words):
        ListenOptions(**options)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "localhost", "::1"])
def test_a_loopback_address_needs_no_token(host):
    assert ListenOptions(host=host).token_file == ""


@pytest.mark.parametrize(
    "policy",
    [
        "ws://",
        "http://a:1",
        "ws://a",
        "ws://a:b",
        "ws://a:9999999",
        "ws://a:1/x",
        "ws://u@a:1",
        "a:1",
    ],
)
def test_addresses_that_are_refused(policy):
    with pytest.raises(PlanError, match="is not an address"):
        RemoteOptions(policy=policy)


def test_another_server_is_no_plan_server():
    """A port where nothing, or something else, listens gives an error in words."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DriveError, match="start `worldmodel serve` there"):
        PlanConnection(RemoteOptions(policy=f"ws://127.0.0.1:{port}"))
    assert pack({"a": 1})
