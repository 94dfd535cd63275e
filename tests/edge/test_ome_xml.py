"""OME-XML against the official schema and an independent reader."""

from dataclasses import replace
from typing import Any, cast

import ome_types
import pytest

from bifocus.edge.ome_xml import SlideDescription, compose_ome_xml, parse_utc
from bifocus.errors import SlideFileError

DESCRIPTION = SlideDescription(
    width_px=3001,
    height_px=1777,
    pixel_um=0.2325,
    objective="Plan Achromat 20x",
    magnification=20,
    na=0.4,
    instrument="OpenFlexure v7",
    software="bifocus 0.1.0",
    acquired_utc="2026-03-01T12:00:00Z",
    simulated=True,
    wavelengths_um=(0.62, 0.53, 0.46),
    notes={"engine": "physics", "profile": "bench 3"},
)


def read_back(description: SlideDescription) -> ome_types.OME:
    xml = compose_ome_xml(description)
    ome_types.validate_xml(xml)  # raises unless the schema holds
    return ome_types.from_xml(xml)


def test_metadata_survive_the_schema() -> None:
    ome = read_back(DESCRIPTION)
    pixels = ome.images[0].pixels
    assert (pixels.size_x, pixels.size_y, pixels.size_c) == (3001, 1777, 3)
    assert pixels.type.value == "uint8"
    assert pixels.physical_size_x == pixels.physical_size_y == 0.2325
    assert pixels.physical_size_x_unit.value == "µm"
    assert pixels.channels[0].samples_per_pixel == 3
    objective = ome.instruments[0].objectives[0]
    assert (objective.nominal_magnification, objective.lens_na) == (20, 0.4)
    acquired = ome.images[0].acquisition_date
    assert acquired is not None
    assert acquired.isoformat().startswith("2026-03-01T12:00:00")


def test_notes_and_simulation_are_said() -> None:
    ome = read_back(DESCRIPTION)
    assert "SIMULATED" in str(ome.images[0].description)
    assert ome.structured_annotations is not None
    annotation = ome.structured_annotations[0]
    assert isinstance(annotation, ome_types.model.MapAnnotation)
    pairs = {m.k: m.value for m in annotation.value.ms}
    assert pairs["simulated"] == "true"
    assert pairs["engine"] == "physics"
    assert pairs["wavelength_um green"] == "0.53"


def test_a_real_slide_is_not_called_simulated() -> None:
    xml = compose_ome_xml(replace(DESCRIPTION, simulated=False))
    assert "SIMULATED" not in xml
    assert '<M K="simulated">false</M>' in xml


def test_no_character_reference_is_ever_written() -> None:
    nasty = 'a\nb\tc\rd\x00e\x0bf <&#181;> "q" \ud800 é 日本'
    odd = replace(DESCRIPTION, instrument=nasty, notes={nasty: nasty})
    xml = compose_ome_xml(odd)
    assert "&#" not in xml
    assert "µm".encode() in xml.encode()
    model = read_back(odd).instruments[0].microscope
    assert model is not None
    assert model.model == 'a b c d e f <&#181;> "q"   é 日本'


@pytest.mark.parametrize("name", ["width_px", "pixel_um", "na"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_impossible_values_are_refused(name: str, value: float) -> None:
    with pytest.raises(SlideFileError, match=name):
        replace(DESCRIPTION, **cast("dict[str, Any]", {name: value}))


def test_times_are_brought_to_utc() -> None:
    assert parse_utc("2026-03-01T14:00:00+02:00") == parse_utc("2026-03-01T12:00:00")
    with pytest.raises(SlideFileError, match="ISO 8601"):
        parse_utc("yesterday")
