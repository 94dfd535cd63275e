"""The calibration report: complete, honest, self-contained, and put in words too."""

import html.parser
import re
from pathlib import Path

import numpy as np
import pytest

from bifocus.calib.report import render_calibration_report, write_calibration_report
from bifocus.calib.step_result import Plot, Series, StepResult
from bifocus.errors import SlideFileError
from bifocus.records import InstrumentProfile, Measured
from tests.scanner import scanner_config

CONFIG = scanner_config()
Z_UM = tuple(float(z) for z in np.linspace(145, 155, 21))


def measured(value: float, u: float, unit: str = "um") -> Measured:
    return Measured(
        value=value, standard_uncertainty=u, method="five stacks, ABBA", unit=unit
    )


def invented_steps() -> list[StepResult]:
    curve = Series(name="stack 1", x=Z_UM, y=Z_UM, u=Z_UM)
    focus = StepResult(
        name="focus",
        values={"focus_um": measured(150.123456, 0.0123)},
        facts={
            "x_um": 500.0,
            "texture": 0.30000000000000004,
            "curve": {"z_um": list(Z_UM), "sharpness": list(Z_UM)},
        },
        plots=(
            Plot(
                title="Fine stacks",
                x_label="z, µm",
                y_label="sharpness",
                series=(curve, Series(name="fit", x=Z_UM, y=Z_UM, style="line")),
                marks=(("best focus", 150.1), ("Gaussian", 150.2)),
            ),
        ),
        pictures={"z = 150 µm": np.full((32, 40, 3), 90, np.uint8)},
        raw_sha256="a" * 64,
    )
    mechanics = StepResult(
        name="z",
        values={"backlash_z_um": measured(5.0, 0.05)},
        facts={
            "formulas": ["B = mean↓ − mean↑"],
            "caveat": "ISO 230-2 asks for a direct measurement.",
            "uncertainty_budget": [
                {"source": "repeats", "type": "A", "u_um": 0.04},
                {"source": "length", "type": "B", "u_um": 0.03},
            ],
            "budget_um": {"motor step": 0.0064551},
        },
        warnings=("more play than is taken up <b>here</b>",),
    )
    return [focus, mechanics]


def invented_profile(*, simulated: bool = True) -> InstrumentProfile:
    return InstrumentProfile(
        identity={"instrument": CONFIG.name, "stage": "board 7 & co"},
        created_utc="2026-03-01T12:00:00+00:00",
        software_version="9.8.7",
        raw_sha256="b" * 64,
        focus_um=measured(150.1, 0.01),
        focus_x_um=500.0,
        focus_y_um=400.0,
        half_spacing_um=measured(0.75, 0.01),
        flat_field=None,
        simulated=simulated,
        skipped={"tilt": "the region holds fewer than four places"},
    )


class Page(html.parser.HTMLParser):
    """Collects tags with their attributes, and the text outside of style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._is_style = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._is_style = tag == "style"
        self.text += " " if tag in ("td", "th") else ""

    def handle_endtag(self, tag: str) -> None:
        self._is_style = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._is_style else data


def render(*, simulated: bool = True) -> str:
    profile = invented_profile(simulated=simulated)
    return render_calibration_report(profile, invented_steps(), CONFIG)


def test_values_stand_with_their_uncertainty_and_way() -> None:
    text = re.sub(r"\s+", " ", Page(render()).text)
    assert "150.123" in text
    assert "0.025" in text  # U = 2 x 0.0123, two digits
    assert "150.1235" not in text
    assert "five stacks, ABBA" in text
    assert "board 7 & co" in text
    assert "9.8.7" in text
    assert "b" * 64 in text
    assert invented_profile().sha256 in text


def test_failures_lead_the_page() -> None:
    text = re.sub(r"\s+", " ", Page(render()).text)
    # 4 um are taken up, 5 um are there.
    assert "Not fit for a scan as configured: 1 of" in text
    assert text.index("moves take up 4 µm of z") < text.index("Values")


def test_skipped_steps_warnings_formulas_and_budget_are_told() -> None:
    text = re.sub(r"\s+", " ", Page(render()).text)
    assert "Tilt of the slide: the region holds fewer than four places" in text
    assert "more play than is taken up <b>here</b>" in text  # escaped, so it is text
    assert "B = mean↓ − mean↑" in text
    assert "ISO 230-2 asks for a direct measurement." in text
    assert "Uncertainty budget" in text
    assert "motor step 0.0065" in text
    assert "0.3" in text
    assert "0.30000" not in text


def test_only_a_simulation_is_stamped() -> None:
    assert "SIMULATED" in Page(render()).text
    assert "SIMULATED" not in Page(render(simulated=False)).text


def test_the_page_needs_nothing_from_outside_and_no_script() -> None:
    page = Page(render())
    names = [name for name, _ in page.tags]
    assert "script" not in names
    assert "link" not in names
    for _, attributes in page.tags:
        for key in ("src", "href"):
            if (address := attributes.get(key)) is not None:
                assert address.startswith(("data:", "#"))


def test_pictures_have_words_and_tables_have_headers() -> None:
    page = Page(render())
    images = [attributes for name, attributes in page.tags if name == "img"]
    assert len(images) == 2
    plot, picture = images
    assert plot["alt"] is not None
    assert "best focus at 150.1" in plot["alt"]
    assert picture["alt"] == "Picture: z = 150 µm"
    headers = [attributes for name, attributes in page.tags if name == "th"]
    assert headers
    assert all(attributes.get("scope") in ("col", "row") for attributes in headers)


def test_the_same_results_give_the_same_page() -> None:
    assert render() == render()


def test_it_is_written_whole(tmp_path: Path) -> None:
    path = write_calibration_report(
        tmp_path, invented_profile(), invented_steps(), CONFIG
    )
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == render()
    assert [it.name for it in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(SlideFileError, match="cannot write"):
        write_calibration_report(
            tmp_path / "absent", invented_profile(), invented_steps(), CONFIG
        )


def test_a_step_without_anything_but_a_name_is_drawn() -> None:
    page = render_calibration_report(
        invented_profile(), [StepResult(name="new_thing", values={})], CONFIG
    )
    assert "New thing" in Page(page).text


def test_units_are_printed_as_signs() -> None:
    steps = [
        StepResult(
            name="z",
            values={"backlash_z_um": measured(1.0, 0.01)},
            warnings=("0.5 um +- 0.1 um left; see stage.take_up_um",),
        )
    ]
    text = Page(render_calibration_report(invented_profile(), steps, CONFIG)).text
    assert "0.5 µm ± 0.1 µm left; see stage.take_up_um" in text


def test_a_scan_arrives_one_way_and_the_play_does_not_count_against_it() -> None:
    """The axes step's value holds the play of both ways, 9 um; its facts tell apart."""
    axes = StepResult(
        name="axes",
        values={"repeatability_x_um": measured(9.0, 0.2)},
        facts={"x": {"repeatability_up_um": 0.8, "u_repeatability_um": 0.1}},
    )
    text = re.sub(
        r"\s+",
        " ",
        Page(render_calibration_report(invented_profile(), [axes], CONFIG)).text,
    )
    # R is all of +- 2 s: to either side a quarter of 12 % of 64 um.
    assert "Repeatability of x, arriving one way ≤ 3.84 µm ✓ pass" in text
