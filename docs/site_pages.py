"""Generate pages when the site is built: home, contributing, changes, API reference."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

ROOT = Path(__file__).resolve().parents[1]
COPIED = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "examples.md": "examples/README.md",
}
"""Pages copied from the repository's root, with adapted links."""
PACKAGES = ("worldmodel", "planning", "robot", "envs")
NOT_API = ("planning.cli",)
"""Excluded from the reference: `worldmodel COMMAND --help` documents it."""


def api_folders() -> list[str]:
    """Return the dotted names of the packages with a page."""
    found = [
        ".".join(file.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for file in sorted((ROOT / package).rglob("__init__.py"))
    ]
    return [name for name in found if not name.startswith(NOT_API)]


def api_page(package: str) -> str:
    """Return a package's page: the package, then its modules."""
    folder = ROOT / package.replace(".", "/")
    modules = [f.stem for f in sorted(folder.glob("*.py")) if not f.stem.startswith("_")]
    lines = [f"# {package}\n", f"::: {package}\n    options:\n      members: false\n"]
    lines += [f"## {name}\n\n`{package}.{name}`\n\n::: {package}.{name}\n" for name in modules]
    return "\n".join(lines)


def adapt_links(text: str) -> str:
    """Adapt a root file's links to the site; links to other repository files become text."""
    pages = {source: page for page, source in COPIED.items()}
    text = re.sub(r"\]\((?:\.\./)?docs/", "](", text)
    text = re.sub(r"\]\(([\w/]+\.md)\)", lambda m: f"]({pages.get(m[1], m[1])})", text)
    text = re.sub(r"\]\((pictures/\w+\.png)\)", r"](examples/\1)", text)
    return re.sub(r"\[([^]]+)\]\((?:LICENSE|CITATION\.cff|[\w/]+\.(?:py|ipynb))\)", r"\1", text)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the reference to the navigation."""
    pages = [{name: f"api/{name}.md"} for name in api_folders()]
    config.nav.insert(5, {"API reference": pages})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for page, source in COPIED.items():
        text = adapt_links((ROOT / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    for name in api_folders():
        files.append(File.generated(config, f"api/{name}.md", content=api_page(name)))
    for picture in sorted((ROOT / "examples" / "pictures").glob("*.png")):
        target = f"examples/pictures/{picture.name}"
        files.append(File.generated(config, target, abs_src_path=str(picture)))
    return files
