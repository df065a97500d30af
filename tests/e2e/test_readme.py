import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_readmes_ten_lines_run():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert scope["plan"].energy < 1.0
