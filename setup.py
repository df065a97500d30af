"""Build step that `pyproject.toml` cannot express: `configs/` becomes data of `worldmodel`."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies `configs/` into the wheel as `worldmodel/configs/`."""

    def run(self) -> None:
        """Build as usual, then add the configuration files."""
        super().run()
        if not self.editable_mode:
            for source in sorted(Path("configs").rglob("*.yaml")):
                target = Path(self.build_lib, "worldmodel", source)
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target))


setup(cmdclass={"build_py": BuildWithConfigs})
