"""The notebook runs offline from its first to its last cell, and is stored without outputs."""

import json
from pathlib import Path

import matplotlib as mpl
import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "world_model.ipynb"


@pytest.fixture(scope="module")
def cells():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    return notebook["cells"]


def test_it_is_stored_without_outputs(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_every_cell_runs_and_the_plan_reaches_the_goal(cells, tmp_path, monkeypatch, capsys):
    """A plain runner of the cells: Jupyter itself is not among the developers' packages."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    with mpl.rc_context({"backend": "Agg"}):
        for cell in cells:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    names["plt"].close("all")
    assert names["env"].success()
    still, lowest = names["energy"][10, 10], names["energy"].min()
    assert lowest < 0.8 * still
    assert names["energy_now"] < 0.5 * still
    assert "success" in capsys.readouterr().out.splitlines()
