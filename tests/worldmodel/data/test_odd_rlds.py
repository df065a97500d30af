"""Odd and hostile RLDS folders: damaged, contradictory, or after more than their records."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.worldmodel.data.other_layouts import SHARD, framed, write_rlds
from worldmodel.data.dataset import RawClips, open_row
from worldmodel.data.episode import EpisodeError
from worldmodel.data.episode_cache import EpisodeCache, size_of
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.inspection import IndexOptions
from worldmodel.data.readers.crc32c import crc32c, masked_crc32c
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.readers.rlds import read_record, read_shard
from worldmodel.data.readers.tfrecord import find_records, read_records
from worldmodel.data.sampling import ClipOptions
from worldmodel.data.transforms import Preprocess
from worldmodel.data.writers.synthetic import draw_episode, random_states
from worldmodel.errors import ConfigError, DataError

OBSERVATION = "steps/observation/"
STEPS = 20


def some_episodes(count=2):
    return [random_states(STEPS, seed) for seed in range(count)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_rlds(tmp_path_factory.mktemp("whole") / "rlds", some_episodes())


def copy(whole: Path, root: Path) -> Path:
    root.mkdir()
    for path in whole.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    return root / SHARD


def reasons(shard: Path) -> list[str]:
    outcomes = [outcome for _, outcome in read_shard(shard, ReadOptions())]
    return [o.reason if isinstance(o, EpisodeError) else "good" for o in outcomes]


def test_crc32c_of_published_vectors_and_any_length():
    # RFC 3720, appendix B.4, and the usual check value
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes([0xFF] * 32)) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    data = np.random.default_rng(0).bytes(2**20 + 2000)
    for size in (0, 1, 511, 512, 513, 1025, 5000, 2**20, 2**20 + 513, len(data)):
        register = 0xFFFFFFFF
        if size < 6000:
            for byte in data[:size]:
                register ^= byte
                for _ in range(8):
                    register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
            assert crc32c(data[:size]) == register ^ 0xFFFFFFFF
        if size:
            flipped = bytearray(data[:size])
            flipped[size // 2] ^= 4
            assert crc32c(bytes(flipped)) != crc32c(data[:size])


def test_any_flipped_bit_is_found(whole, tmp_path):
    shard = copy(whole, tmp_path / "rlds")
    data, places = shard.read_bytes(), find_records(shard)
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 8 * len(data), 40)
    second = places[1]
    bits = [*bits, *(8 * at for at in (second.start - 12, second.start - 1, second.end - 1))]
    for bit in bits:
        spoiled = bytearray(data)
        spoiled[bit // 8] ^= 1 << (bit % 8)
        shard.write_bytes(spoiled)
        found = reasons(shard)
        assert found.count("good") == 1 or found == ["record_damaged"], (bit, found)
        assert {"record_damaged", "record_truncated"} & set(found)


def test_a_damaged_record_is_the_only_reject(whole, tmp_path):
    shard = copy(whole, tmp_path / "rlds")
    data, place = bytearray(shard.read_bytes()), find_records(shard)[0]
    data[place.start + 50] ^= 1
    shard.write_bytes(data)
    summary = build_index(shard.parent, tmp_path / "out", workers=1)
    assert (summary["accepted"], summary["reasons"]) == (1, {"record_damaged": 1})
    manifest = open_manifest(tmp_path / "out")
    assert manifest.rows[0]["record"] == 1
    assert len(open_row(manifest, manifest.rows[0])) == STEPS
    with pytest.raises(EpisodeError, match="checksum"):
        read_record(shard, 0, ReadOptions())
    with pytest.raises(EpisodeError, match="checksum"):
        list(read_records(shard))


def test_a_file_without_checksums_is_read_and_noted(tmp_path):
    root = write_rlds(tmp_path / "rlds", some_episodes(), checksums=False)
    summary = build_index(root, tmp_path / "out", workers=1)
    assert (summary["accepted"], summary["notes"]) == (2, {"record_unchecked": 2})


def test_zeroed_checksums_among_others_are_damage(whole, tmp_path):
    shard = copy(whole, tmp_path / "rlds")
    data, place = bytearray(shard.read_bytes()), find_records(shard)[1]
    data[place.end - 4 : place.end] = bytes(4)
    shard.write_bytes(data)
    assert reasons(shard) == ["good", "record_damaged"]


ODD_COUNTS = {
    "joints": lambda f, i: f.update({OBSERVATION + "joint_position": [0.0] * 99}),
    "poses": lambda f, i: f.update(
        {OBSERVATION + "cartesian_position": np.ravel(f[OBSERVATION + "cartesian_position"])[:-1]}
    ),
    "a pose": lambda f, i: f.update(
        {OBSERVATION + "cartesian_position": f[OBSERVATION + "cartesian_position"][:-1]}
    ),
    "grippers": lambda f, i: f.update({OBSERVATION + "gripper_position": [0.5] * 3}),
    "camera pose": lambda f, i: f.update({"episode_metadata/extrinsics_exterior_cam_1": [0.1] * 5}),
    "images": lambda f, i: i[OBSERVATION + "exterior_image_1_left"].pop(),
}


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize("name", ODD_COUNTS)
def test_counts_that_disagree_are_a_reject(tmp_path, name, described):
    def change(number, floats, images):
        if number:
            ODD_COUNTS[name](floats, images)

    root = write_rlds(tmp_path / "rlds", some_episodes(), change)
    if not described:
        (root / "features.json").unlink()
    summary = build_index(root, tmp_path / "out", workers=1)
    assert (summary["accepted"], summary["rejected"]) == (1, 1)
    (reason,) = summary["reasons"]
    assert reason in {"lengths_differ", "video_too_short", "record_damaged"}


def serialised(features: dict) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    for key, value in features.items():
        kind = "bytes_list" if isinstance(value[0], bytes) else "int64_list"
        getattr(example.features.feature[key], kind).value.extend(value)
    return example.SerializeToString()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"abcd",
        bytes(100),
        serialised({OBSERVATION + "cartesian_position": [b"text"]}),
        serialised(
            {
                OBSERVATION + "cartesian_position": [0] * 12,
                OBSERVATION + "gripper_position": [0, 0],
                OBSERVATION + "exterior_image_1_left": [2**40, 2**40],
            }
        ),
    ],
)
def test_records_of_nonsense_are_rejects(tmp_path, data):
    (tmp_path / SHARD).write_bytes(framed(data) + framed(b"\xff"))
    found = reasons(tmp_path / SHARD)
    assert len(found) == 2
    assert "good" not in found
    assert "reader_failed" not in found


@pytest.mark.parametrize("head", [b"\xff" * 12, b"\0" * 12, (2**62).to_bytes(8, "little")])
def test_lengths_of_nonsense_end_the_shard(tmp_path, head):
    (tmp_path / SHARD).write_bytes(head + b"abc")
    assert reasons(tmp_path / SHARD) in (["record_damaged"], ["record_truncated"])


def test_a_fifo_is_not_opened(whole, tmp_path):
    copy(whole, tmp_path / "rlds")
    os.mkfifo(tmp_path / "rlds" / "a.tfrecord")
    summary = build_index(tmp_path / "rlds", tmp_path / "out", workers=1)
    assert (summary["accepted"], summary["reasons"]) == (2, {"not_a_file": 1})


OWN = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
HIDDEN = {
    "named": {"pythonClassName": "evil_module.F", "featuresDict": {"features": {}}},
    "snake case": {"python_class_name": "evil_module.F", "features_dict": {"features": {}}},
    "former form": {"type": "evil_module.F", "content": {}},
    "inner": {
        "pythonClassName": OWN,
        "featuresDict": {"features": {"a": {"pythonClassName": "evil_module.F"}}},
    },
    "in text": {
        "pythonClassName": OWN,
        "jsonFeature": {"json": json.dumps({"a": {"type": "evil_module.F", "content": {}}})},
    },
    "in text of text": {
        "type": OWN,
        "proto_cls": "tensorflow_datasets.FeaturesDict",
        "content": json.dumps({"features": {"a": {"pythonClassName": "evil_module.F"}}}),
    },
    "installed": {"pythonClassName": "this.F", "featuresDict": {"features": {}}},
    "other part": {"pythonClassName": "tensorflow_datasets.scripts.cli.main.F"},
}


def test_features_json_imports_nothing(tmp_path):
    """The module lies in the data folder, which is the working folder and on the path."""
    (tmp_path / SHARD).write_bytes(framed(b"abcd"))
    (tmp_path / "evil_module.py").write_text("open('RAN', 'w').close()\nclass F: pass\n")
    (tmp_path / "hidden.json").write_text(json.dumps(list(HIDDEN.values())))
    code = (
        "import json, sys; from pathlib import Path\n"
        "from worldmodel.data.readers.layouts import check_description\n"
        "from worldmodel.errors import ConfigError, DataError\n"
        "for described in json.loads(Path('hidden.json').read_text()):\n"
        "    Path('features.json').write_text(json.dumps(described))\n"
        "    try: check_description(Path(), 'inside')\n"
        "    except DataError as error: print(error)\n"
        "print(sorted({'this', 'evil_module', 'tensorflow_datasets.scripts'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{Path.cwd()}:"},
        capture_output=True,
        text=True,
        check=True,
    )
    *messages, loaded = done.stdout.strip().split("\n")
    assert loaded == "[]"
    assert not (tmp_path / "RAN").exists()
    assert sum("features.json names the class" in message for message in messages) == len(HIDDEN)


@pytest.mark.parametrize("text", ["{}", "[]", "3", "{", "[" * 100_000, '{"pythonClassName": 3}'])
def test_a_wrong_features_json_is_one_error_that_names_it(whole, tmp_path, text):
    shard = copy(whole, tmp_path / "rlds")
    (shard.parent / "features.json").write_text(text)
    with pytest.raises(DataError, match=r"features\.json"):
        build_index(shard.parent, tmp_path / "out", workers=1)


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="counts bytes in /proc")
def test_opening_an_episode_reads_no_other(tmp_path):
    root = write_rlds(tmp_path / "rlds", some_episodes(12))
    build_index(root, tmp_path / "out", workers=1)
    manifest = open_manifest(tmp_path / "out")
    size = (root / SHARD).stat().st_size / len(manifest.rows)
    open_row(manifest, manifest.rows[3])
    before = bytes_read()
    for row in (7, 2, 11):
        open_row(manifest, manifest.rows[row])
    assert (bytes_read() - before) / 3 < 1.2 * size
    before = bytes_read()
    clips = RawClips(manifest, ClipOptions(num_frames=2), Preprocess("droid", (16, 16)))
    assert bytes_read() - before < size
    assert clips.batch(np.array([0]))["frames"].shape == (1, 2, 16, 16, 3)


def test_episodes_are_kept_up_to_a_number_of_bytes(whole):
    shard = whole / SHARD
    size = size_of(read_record(shard, 0, ReadOptions()))
    images = sum(len(data) for data in read_records(shard)) / 2
    assert 0.5 * images < size < 2 * images
    opened = []

    def open_episode(number):
        opened.append(number)
        return read_record(shard, 0, ReadOptions())

    cache = EpisodeCache(open_episode, int(2.5 * size))
    for number in (0, 1, 0, 2, 0, 1):
        cache(number)
        assert cache.num_bytes <= cache.max_bytes
    assert opened == [0, 1, 2, 1]
    small = EpisodeCache(open_episode, 10)
    small(0)
    assert small.num_bytes == 0


def test_the_rate_is_an_option_and_contradicting_stamps_are_noted(whole, tmp_path, caplog):
    shard = whole / SHARD
    fast = read_record(shard, 0, ReadOptions(rlds_fps=5))
    assert fast.seconds == pytest.approx((STEPS - 1) / 5)

    def change(number, floats, images):
        floats["steps/observation/timestamp"] = np.arange(STEPS) * (100 if number else 1000 / 15)

    root = write_rlds(tmp_path / "rlds", some_episodes(), change)
    (root / "features.json").unlink()
    summary = build_index(root, tmp_path / "out", workers=1)
    assert summary["notes"] == {"timestamps_say_10_fps": 1}
    assert summary["rlds_fps"] == 15
    assert "pass rlds_fps=" in caplog.text
    right = build_index(root, tmp_path / "right", read_at(10), workers=1)
    assert right["notes"] == {"timestamps_say_15_fps": 1}
    manifest = open_manifest(tmp_path / "right")
    assert open_row(manifest, manifest.rows[0]).seconds == pytest.approx((STEPS - 1) / 10)


def read_at(fps):
    return IndexOptions(read=ReadOptions(rlds_fps=fps))


def test_the_rate_is_refused_for_other_layouts(tmp_path):
    draw_episode(tmp_path / "raw", "e0", random_states(STEPS, 0), size=(16, 32))
    with pytest.raises(ConfigError, match="rlds_fps=10"):
        build_index(tmp_path / "raw", tmp_path / "out", read_at(10), workers=1)


def test_masked_checksum_of_a_length():
    # the header of an 18-byte record, as TensorFlow writes it
    assert masked_crc32c((18).to_bytes(8, "little")) == masked_crc32c(b"\x12" + bytes(7))
