"""The instrument file: every mistake is named with its file, key and mending."""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from bifocus.config import Instrument, load_instrument
from bifocus.config_model import parse_model
from bifocus.errors import ConfigError

Document = dict[str, Any]
KeyPath = tuple[str | int, ...]

GOOD: Document = {
    "version": 1,
    "name": "bench 3",
    "clock": "virtual",
    "optics": {"na": 0.75, "pixel_um": 0.25},
    "stage": {
        "kind": "virtual",
        "x_um": [0.0, 50_000.0],
        "y_um": [0.0, 25_000.0],
        "z_um": [-500.0, 500.0],
        "speed_um_per_s": [4000.0, 4000.0, 500.0],
        "acceleration_um_per_s2": [40_000.0, 40_000.0, 5000.0],
        "step_um": [0.5, 0.5, 0.05],
        "mechanics": {"backlash_um": [6.0, 6.0, 1.5]},
    },
    "camera": {"kind": "virtual", "width_px": 640, "height_px": 480},
    "virtual_slide": {"tilt_mrad": [2.0, -1.0]},
}


def changed(path: KeyPath, value: object) -> Document:
    document = copy.deepcopy(GOOD)
    place: Any = document
    for key in path[:-1]:
        place = place[key] if isinstance(key, int) else place.setdefault(key, {})
    place[path[-1]] = value
    return document


def refusal(document: object) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_model(Instrument, document, source="bench.yaml")
    return str(caught.value)


def whole_document() -> Document:
    """Return GOOD with every default written out, so that every key can be tried."""
    whole = parse_model(Instrument, GOOD, source="good").model_dump(mode="json")
    whole["scan"]["region_um"] = [0.0, 0.0, 1000.0, 1000.0]
    whole["calibration"].update(z_start_um=0.0, coarse_step_um=1.0, fine_step_um=0.5)
    return whole


def numbers(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the path of every number inside a document."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from numbers(inner, (*path, index))
    elif isinstance(value, float | int) and not isinstance(value, bool):
        yield path


WHOLE = whole_document()


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    path.write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    instrument = load_instrument(path)
    assert instrument.stage.z_um == (-500.0, 500.0)
    assert instrument.optics.magnification == 20.0
    assert instrument.is_simulated


def test_the_instrument_is_frozen() -> None:
    instrument = parse_model(Instrument, GOOD, source="good")
    with pytest.raises(ValidationError, match="frozen"):
        instrument.name = "other"


def test_defaults_written_out_are_accepted_again() -> None:
    assert parse_model(Instrument, WHOLE, source="whole").stage.settle_s == 0.0


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        (("optic",), "optics"),
        (("optics", "pixel_size_um"), "pixel_um"),
        (("stage", "speed_um_s"), "speed_um_per_s"),
        (("stage", "mechanics", "backlsh_um"), "backlash_um"),
        (("camera", "exposure_ms"), "exposure_s"),
        (("virtual_slide", "tilt_mrd"), "tilt_mrad"),
        (("scan", "overlapp"), "overlap"),
        (("calibration", "repeat"), "repeats"),
    ],
)
def test_a_misspelt_key_names_file_key_and_nearest(path: KeyPath, nearest: str) -> None:
    dotted = ".".join(map(str, path))
    assert refusal(changed(path, 1)) == (
        f"bench.yaml: unknown key '{dotted}'; did you mean '{nearest}'?"
    )


@pytest.mark.parametrize(
    ("camera", "told"),
    [
        (
            {"kind": "opencv", "width_px": 640, "exposure_s": 0.01},
            "'camera.height_px' is",
        ),
        ({"width_px": 640, "height_px": 480}, "key 'camera.kind' is missing"),
        (
            {"kind": "opencw"},
            "key 'camera.kind': 'opencw' is not one of 'virtual', 'op",
        ),
        (
            {"kind": "basler", "width_px": 640, "height_px": 480, "seriel": "1"},
            "unknown key 'camera.seriel'; did you mean 'serial'?",
        ),
        (
            {"kind": "aravis", "width_px": 640, "height_px": 480, "sensor": {"fal": 1}},
            "unknown key 'camera.sensor.fal'; did you mean 'falloff'?",
        ),
        (
            {"kind": "aravis", "width_px": 640, "height_px": 480, "exposure_s": 20},
            "key 'camera.exposure_s'",
        ),
        (
            {
                "kind": "picamera2",
                "width_px": 640,
                "height_px": 480,
                "exposure_s": 0.5,
                "exposure_limits_s": [0.001, 0.2],
            },
            "exposure_s 0.5 is outside exposure_limits_s 0.001..0.2",
        ),
        (
            {
                "kind": "micromanager",
                "width_px": 640,
                "height_px": 480,
                "device": "Cam",
                "core": {"config_file": "a.cfg", "devices": [{"label": "Cam"}]},
            },
            "key 'camera.core.devices.0.library' is missing",
        ),
    ],
)
def test_mistakes_in_a_section_of_several_kinds(camera: Document, told: str) -> None:
    assert told in refusal(changed(("camera",), camera))


def test_real_devices_need_no_virtual_slide() -> None:
    document = changed(
        ("camera",), {"kind": "opencv", "width_px": 640, "height_px": 480}
    )
    del document["virtual_slide"]
    instrument = parse_model(Instrument, document, source="good")
    assert instrument.camera.kind == "opencv"
    assert instrument.is_simulated  # the stage is
    document["camera"] = {
        "kind": "aravis",
        "address": "virtual",
        "width_px": 640,
        "height_px": 480,
    }
    assert "virtual_slide" in refusal(document)


def test_every_problem_is_told_at_once() -> None:
    document = changed(("optics", "na"), -1)
    document["camera"]["widht_px"] = 640
    del document["stage"]["x_um"]
    lines = refusal(document).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("bench.yaml: ") for line in lines)
    assert any("key 'stage.x_um' is missing" in line for line in lines)


@pytest.mark.parametrize(
    "path", list(numbers(WHOLE)), ids=lambda path: ".".join(map(str, path))
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_may_be_nan_or_infinite(path: KeyPath, value: float) -> None:
    document = copy.deepcopy(WHOLE)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    keys = [key for key in path if isinstance(key, str)]
    assert ".".join(keys) in refusal(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("optics", "na"), 0.0),
        (("optics", "na"), 1.6),
        (("optics", "pixel_um"), -0.25),
        (("stage", "speed_um_per_s"), [4000.0, 0.0, 500.0]),
        (("stage", "step_um"), [0.5, 0.5, -0.05]),
        (("stage", "settle_s"), -0.1),
        (("stage", "mechanics", "backlash_um"), [-6.0, 6.0, 1.5]),
        (("camera", "width_px"), 0),
        (("camera", "exposure_s"), 0.0),
        (("camera", "falloff"), 1.0),
        (("virtual_slide", "layers"), 0),
        (("scan", "overlap"), 0.0),
        (("scan", "half_spacing_um"), -0.75),
        (("scan", "region_um"), [0.0, 0.0, -10.0, 10.0]),
        (("calibration", "repeats"), 0),
        (("seed",), -1),
        (("version",), 2),
        (("name",), ""),
    ],
)
def test_a_value_out_of_range_names_its_key(path: KeyPath, value: object) -> None:
    text = refusal(changed(path, value))
    assert text.startswith("bench.yaml: key '")
    assert ".".join(map(str, path)) in text


@pytest.mark.parametrize("axis", ["x_um", "y_um", "z_um"])
@pytest.mark.parametrize("travel", [[10.0, -10.0], [5.0, 5.0]])
def test_reversed_or_empty_travel_is_refused(axis: str, travel: list[float]) -> None:
    text = refusal(changed(("stage", axis), travel))
    assert f"{axis}: the low end" in text


def test_the_aperture_must_fit_the_medium() -> None:
    document = changed(("optics", "na"), 1.2)
    assert "refractive_index" in refusal(document)
    document["optics"]["refractive_index"] = 1.515
    assert parse_model(Instrument, document, source="oil").optics.na == 1.2


def test_a_virtual_camera_needs_something_to_look_at() -> None:
    document = copy.deepcopy(GOOD)
    del document["virtual_slide"]
    assert "virtual_slide" in refusal(document)


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_a_file_that_is_no_mapping_is_refused(document: object) -> None:
    assert "expected a mapping" in refusal(document)


def test_yaml_cannot_make_python_objects(tmp_path: Path) -> None:
    marker = tmp_path / "made"
    path = tmp_path / "evil.yaml"
    path.write_text(
        f"name: !!python/object/apply:pathlib.Path.touch [{marker}]\n", encoding="utf-8"
    )
    with pytest.raises(ConfigError, match=r"evil\.yaml: not a YAML file"):
        load_instrument(path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"a: [1, 2", b"\xff\xfe\x00", b"a: b: c"])
def test_a_file_that_is_no_yaml_names_itself(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load_instrument(path)


def test_a_missing_file_names_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot read"):
        load_instrument(tmp_path / "absent.yaml")
