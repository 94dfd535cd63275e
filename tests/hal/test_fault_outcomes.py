"""The page about fault plans shows the table that the tests hold us to."""

from pathlib import Path

from bifocus.hal.fault_outcomes import FAMILIES, REQUIRED

PAGE = Path(__file__).parents[2] / "docs" / "virtual-firmware.md"


def test_the_page_shows_the_required_outcomes() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert f"| fault | {' | '.join(FAMILIES)} |" in lines
    shown = [line for line in lines if line.startswith("| `")]
    assert shown == [
        f"| `{fault}` | {' | '.join(row[family].text for family in FAMILIES)} |"
        for fault, row in REQUIRED.items()
    ]
