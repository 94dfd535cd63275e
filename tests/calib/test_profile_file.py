"""`profile.yaml`: it comes back as it was, and foreign or damaged ones are refused."""

import dataclasses
import errno
from pathlib import Path
from typing import Any

import pytest
import yaml

from bifocus.calib.profile_file import read_profile, write_profile
from bifocus.calib.profile_identity import check_identity
from bifocus.calibrated_optics import CalibratedOptics, OffsetReadout
from bifocus.errors import ConfigError, SlideFileError
from bifocus.records import FlatField, InstrumentProfile, Measured
from bifocus.transfer import Light

PROFILE = InstrumentProfile(
    identity={"stage": "Sangaboard ünïcode", "camera": "42", "objective": "20x"},
    created_utc="2026-03-01T12:00:00+00:00",
    software_version="0.1.0",
    raw_sha256="ab" * 32,
    focus_um=Measured(value=12.345678901, standard_uncertainty=0.02, method="stack"),
    focus_x_um=100.0,
    focus_y_um=-200.5,
    half_spacing_um=Measured(value=0.75, standard_uncertainty=0.0, method="file"),
    flat_field=FlatField(
        coefficients=tuple((0.1 * c, 0.0, 0.01, -0.1, 0.0, -0.2) for c in range(3)),
        glass_fraction=0.31,
    ),
    simulated=True,
    curve={"z_um": [1.0, 2.0], "sharpness": [3.0, 4.0]},
    optics=CalibratedOptics(
        na=0.745,
        light=Light(condenser=0.55, spherical_waves=0.25),
        chromatic_um=(0.1, 0.0, -0.2),
        readout=OffsetReadout(gain=0.9, bias_um=0.01, range_um=2),
    ),
    values={
        "na": Measured(value=0.745, standard_uncertainty=0.01, method="fit", unit=""),
        "settle_z_s": Measured(
            value=1, standard_uncertainty=0, method="whole", unit="s"
        ),
    },
    facts={"optics": {"light": {"condenser": 0.6, "n": 3, "is_sure": True}}},
    skipped={"tilt": "the slide is too small"},
    warnings=("dust on the slide: 50 %",),
    steps={"focus": "2026-03-01T11:58:00+00:00"},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "profile.yaml"


@pytest.mark.parametrize(
    "profile",
    [
        PROFILE,
        dataclasses.replace(PROFILE, flat_field=None, optics=None),
        dataclasses.replace(
            PROFILE,
            flat_field=FlatField(coefficients=((0.1,) * 15,) * 3, glass_fraction=0.5),
        ),
    ],
)
def test_a_profile_comes_back_as_it_was(path: Path, profile: InstrumentProfile) -> None:
    write_profile(path, profile)
    assert read_profile(path) == profile
    assert [other.name for other in path.parent.iterdir()] == [path.name]


def rewritten(path: Path, **changes: Any) -> Path:
    write_profile(path, PROFILE)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document.update(changes)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"focus_umm": 3.0}, r"unknown key 'focus_umm'; did you mean 'focus_um'"),
        ({"focus_x_um": NAN}, "focus_x_um"),
        (
            {"focus_um": {"value": NAN, "standard_uncertainty": 0, "method": ""}},
            r"focus_um\.value",
        ),
        (
            {"focus_um": {"value": 1, "standard_uncertainty": -1, "method": ""}},
            r"focus_um\.standard_uncertainty",
        ),
        ({"curve": {"z_um": [NAN]}}, "curve"),
        (
            {"flat_field": {"coefficients": [[1.0] * 6] * 2, "glass_fraction": 0.1}},
            "coefficients",
        ),
        ({"optics": {"na": 0.7}}, "not the record of calibrated optics"),
        ({"version": 3}, "version"),
        ({"version": 1}, "version 1.*run `bifocus calibrate` again"),
    ],
)
def test_a_damaged_profile_is_refused(
    path: Path, changes: dict[str, Any], names: str
) -> None:
    with pytest.raises(ConfigError, match=names) as caught:
        read_profile(rewritten(path, **changes))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: [1", b"", b"- 1"])
def test_what_is_no_profile_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "profile.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"profile\.yaml"):
        read_profile(path)


def test_a_missing_profile_names_the_command(path: Path) -> None:
    with pytest.raises(ConfigError, match="bifocus calibrate"):
        read_profile(path)


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text("identity: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    with pytest.raises(ConfigError):
        read_profile(path)


def test_a_foreign_profile_is_refused_with_all_that_differs() -> None:
    identity = {**PROFILE.identity, "camera": "43", "board": "v0.5"}
    with pytest.raises(ConfigError, match="bifocus calibrate") as caught:
        check_identity(PROFILE, identity)
    text = str(caught.value)
    assert "camera: profile '42', instrument '43'" in text
    assert "board: profile '-', instrument 'v0.5'" in text
    assert "objective" not in text


def test_its_own_instrument_is_accepted() -> None:
    check_identity(PROFILE, dict(PROFILE.identity))


def test_a_full_disk_leaves_the_old_profile_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profile(path, PROFILE)

    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(SlideFileError, match="No space left"):
        write_profile(path, dataclasses.replace(PROFILE, focus_x_um=7.0))
    assert read_profile(path) == PROFILE
    assert sorted(p.name for p in path.parent.rglob("*")) == ["history", path.name]


def test_a_replaced_profile_is_kept(path: Path) -> None:
    newer = dataclasses.replace(PROFILE, focus_x_um=7.0, created_utc="2026-03-02T12:00")
    newest = dataclasses.replace(newer, focus_x_um=8.0)  # within the same second
    for profile in (PROFILE, newer, newest, newest):
        write_profile(path, profile)
    assert read_profile(path) == newest
    kept = sorted((path.parent / "history").iterdir())
    assert [read_profile(old) for old in kept] == [PROFILE, newer]


@pytest.mark.parametrize(
    ("written", "edited"),
    [
        ("12.345678901", "12.345678902"),
        ("tilt: the slide is too small", "tilt: it is not"),
        ("focus_x_um: 100.0", "focus_x_um: 100.1"),
        ("condenser: 0.6", "condenser: 0.7"),
        ("simulated: true", "simulated: false"),
    ],
)
def test_an_edited_profile_is_refused(path: Path, written: str, edited: str) -> None:
    write_profile(path, PROFILE)
    text = path.read_text(encoding="utf-8")
    assert text.count(written) == 1
    path.write_text(text.replace(written, edited), encoding="utf-8")
    with pytest.raises(ConfigError, match="changed after calibration") as caught:
        read_profile(path)
    assert str(path) in str(caught.value)


def test_a_comment_or_another_order_is_no_edit(path: Path) -> None:
    write_profile(path, PROFILE)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text("# seen by me\n" + yaml.safe_dump(document), encoding="utf-8")
    assert read_profile(path) == PROFILE


def test_the_summary_is_text_and_names_the_file_by_its_content(path: Path) -> None:
    write_profile(path, PROFILE)
    summary = read_profile(path).summary()
    assert summary["focus_um"] == "12.3457 +- 0.04 um (k = 2)"
    assert summary["na"] == "0.745 +- 0.02 (k = 2)"
    assert summary["calibration_skipped"] == "tilt"
    assert f"sha256: {summary['profile_sha256']}" in path.read_text(encoding="utf-8")
    other = dataclasses.replace(PROFILE, warnings=())
    assert other.sha256 != PROFILE.sha256
