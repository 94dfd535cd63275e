"""The guide's worked example is run as it is printed, so that it cannot rot."""

import re
from pathlib import Path

import pytest

pytest_plugins = ("pytester",)

GUIDE = Path(__file__).parents[2] / "docs" / "new-device.md"
BLOCK = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks() -> dict[str, str]:
    return dict(BLOCK.findall(GUIDE.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_the_worked_example_passes_its_own_tests(pytester: pytest.Pytester) -> None:
    files = blocks()
    assert {"tiny_board.py", "tiny_stage.py", "test_tiny_stage.py"} <= set(files)
    for name, text in files.items():
        (pytester.path / name).write_text(text, encoding="utf-8")
    arguments = ("-W", "error", "-p", "no:cacheprovider", "test_tiny_stage.py")
    result = pytester.runpytest_subprocess(*arguments)
    outcomes = result.parseoutcomes()
    assert set(outcomes) == {"passed"}
    assert outcomes["passed"] >= 20


@pytest.mark.slow
def test_a_mistake_in_the_example_is_found(pytester: pytest.Pytester) -> None:
    """The example's tests are no decoration: a driver that reads no answer fails."""
    files = blocks()
    deaf = files["tiny_stage.py"].replace(
        "self.port.wait_for(parse_taken, deadline_s)", "pass"
    )
    deaf = deaf.replace(
        "arrival_um=(x_um / 2, y_um / 2, z_um / 2)", "arrival_um=(1e3,) * 3"
    )
    assert deaf != files["tiny_stage.py"]
    for name, text in {**files, "tiny_stage.py": deaf}.items():
        (pytester.path / name).write_text(text, encoding="utf-8")
    arguments = ("-p", "no:cacheprovider", "test_tiny_stage.py", "-k", "keeps_the_rule")
    result = pytester.runpytest_subprocess(*arguments)
    assert result.parseoutcomes().get("failed", 0) >= 1
    result.stdout.fnmatch_lines(["*FAILED*error-reply-raises*"])
