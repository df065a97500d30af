"""A flipped bit in a TFRecord is the reject of its record."""

import json

from tests.worldmodel.data.other_layouts import SHARD, write_rlds
from worldmodel.data.index import build_index
from worldmodel.data.writers.synthetic import random_states


def test_the_record_is_rejected_and_the_other_kept(tmp_path):
    states = [random_states(8, seed) for seed in (0, 1)]
    root = write_rlds(tmp_path / "in", states)
    data = bytearray((root / SHARD).read_bytes())
    at = data.rfind(states[1].astype("f4")[4, :1].tobytes())
    data[at + 2] ^= 0x60
    (root / SHARD).write_bytes(data)
    summary = build_index(root, tmp_path / "out", workers=1)
    assert (summary["accepted"], summary["reasons"]) == (1, {"record_damaged": 1})
    assert "checksum" in json.loads((tmp_path / "out" / "rejects.jsonl").read_text())["message"]
