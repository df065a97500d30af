import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_module_below_the_apps_is_under_the_import_contract():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {c["name"]: c for c in settings["tool"]["importlinter"]["contracts"]}
    named = contracts["planning below its apps imports no sibling"]["source_modules"]
    folder = ROOT / "planning"
    found = {p.stem for p in folder.glob("*.py")} | {p.parent.name for p in folder.glob("*/*.py")}
    low = found - {"__init__", "apps", "cli"}
    assert {name.removeprefix("planning.") for name in named} == low
