"""The commands of docs/see.md that run offline, run as written but shorter."""

import json
import re
import shlex
from pathlib import Path

import h5py
import pytest

from planning.cli.app import main
from worldmodel import load_encoder

PAGE = Path(__file__).parents[2] / "docs" / "see.md"
SHORT = {
    "data shapes": ["train=32", "val=16", "pairs=2", "images=12"],
    "pretrain": ["steps=3", "batch_size=4", "val_clips=64", "eval_every=10"],
    "probe train": ["epochs=1", "lr=1e-3", "weight_decay=0.1"],
}
"""Command -> words of the test after the page's own, which they override."""


def commands() -> list[list[str]]:
    """Commands of the page's sections that need nothing from elsewhere, in order."""
    text = PAGE.read_text(encoding="utf-8").partition("\n## Other encoders")[0]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = (
        "".join(code for language, code in blocks if not language).replace("\\\n", " ").splitlines()
    )
    return [shlex.split(line, comments=True)[1:] for line in lines]


def shortened(words: list[str]) -> list[str]:
    name = next((n for n in SHORT if " ".join(words).startswith(n)), "")
    keys = {word.partition("=")[0] for word in SHORT.get(name, [])}
    return [w for w in words if w.partition("=")[0] not in keys] + SHORT.get(name, [])


@pytest.mark.timeout(600)
def test_the_page_leads_from_a_made_set_to_features_probes_and_surprise(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    found = commands()
    assert [words[0] for words in found].count("probe") == 3
    for words in found:
        extra = ["probe_clips=64"] if words[:2] == ["pretrain", "recipe=shapes"] else []
        assert main([*shortened(words), *extra]) == 0, (words, capsys.readouterr().err)
    text = capsys.readouterr().out
    assert "AUROC" in text
    with h5py.File("runs/shape_features.h5") as file:
        group = next(iter(file.values()))
        while not isinstance(group, h5py.Dataset):
            group = group["features"] if "features" in group else next(iter(group.values()))
        assert group.shape[1:] == (75, 96)
    assert load_encoder("runs/shape_ijepa_hf", "cpu").image_size == (64, 64)
    summary = json.loads(Path("runs/shape_surprise/summary.json").read_text())
    assert list(summary["scores"]["context 2"]) == ["all", "appears", "jumps", "vanishes"]
    assert len(list(Path("runs/shape_surprise").glob("pair_*.png"))) == 6
