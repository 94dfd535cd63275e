"""`bifocus init`: a commented file that loads, and never over another.

What the comments say of ranges and choices is held against the models that refuse.
"""

import errno
import os
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bifocus.config import Instrument, load_instrument
from bifocus.instrument_text import CameraKind, StageKind, instrument_text
from tests.cli.commands import run_cli

STAGES: tuple[StageKind, ...] = typing.get_args(StageKind)
CAMERAS: tuple[CameraKind, ...] = typing.get_args(CameraKind)
PAIRS = [
    (stage, camera)
    for stage in STAGES
    for camera in CAMERAS
    if camera != "virtual" or stage == "virtual"
]
# Simulations behind a real driver, which other files show; and single devices in the
# place of Micro-Manager's own file.
LEFT_OUT = {"virtual_firmware", "sensor", "devices"}
KEY = re.compile(r"^ *(?:# )?([a-z_0-9]+):(?: |$)")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e\d+)?")
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def comments_of(text: str) -> dict[str, str]:
    """Return each key's comments: its line's own, and the lines of comment around."""
    found: dict[str, str] = {}
    above, last = "", ""
    for line in text.splitlines():
        key = KEY.match(line)
        if key is not None:
            last = key[1]
            own = line.replace("# ", "", 1) if line.lstrip()[0] == "#" else line
            found[last] = found.get(last, "") + above + own.partition("#")[2]
            above = ""
        elif line.lstrip().startswith("#"):
            above += line
            found[last] = found.get(last, "") + line
        else:
            above, last = "", ""
    return found


def fields_of(
    schema: dict[str, Any], defs: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield (key, schema) of a JSON schema of pydantic, and of the objects inside."""
    for name, field in schema["properties"].items():
        if name in LEFT_OUT:
            continue
        yield name, field
        for part in [field, *field.get("anyOf", ()), field.get("items", {})]:
            if "$ref" in part:
                yield from fields_of(defs[part["$ref"].rpartition("/")[2]], defs)


def must_be_said(schema: Any) -> Iterator[float | str]:
    """Yield every bound and every choice in the schema of one key."""
    if isinstance(schema, list):
        for item in schema:
            yield from must_be_said(item)
    if not isinstance(schema, dict):
        return
    yield from (float(schema[bound]) for bound in BOUNDS if bound in schema)
    yield from (str(choice) for choice in schema.get("enum", ()))
    if schema.get("type") == "boolean":
        yield from ("true", "false")
    for name in ("anyOf", "items", "prefixItems"):
        yield from must_be_said(schema.get(name))


def sections_of(text: str) -> dict[str, str]:
    blocks = re.split(r"\n\n(?=[a-z])", text)
    return {block.partition(":")[0]: block for block in blocks[1:]}


def said_wrong(section: str, schema: dict[str, Any]) -> list[str]:
    """Return what a section of a file fails to say of its model's keys."""
    comments, missing = comments_of(section), []
    for name, field in fields_of(schema, schema.get("$defs", {})):
        said = comments.get(name, "")
        if not said.strip():
            missing.append(f"{name}: no key with a comment")
        numbers = {float(number) for number in NUMBER.findall(said)}
        words = set(re.findall(r"[\w-]+", said))
        for thing in must_be_said(field):
            if thing not in (numbers if isinstance(thing, float) else words):
                missing.append(f"{name}: {thing} is not in '{said}'")
    return missing


@pytest.mark.parametrize(("stage", "camera"), PAIRS)
def test_every_file_loads_and_explains_every_key(
    tmp_path: Path, stage: StageKind, camera: CameraKind
) -> None:
    path = tmp_path / "scanner.yaml"
    assert run_cli("init", path, "--stage", stage, "--camera", camera).code == 0
    instrument = load_instrument(path)
    assert (instrument.stage.kind, instrument.camera.kind) == (stage, camera)
    assert instrument.is_simulated == (stage == "virtual")
    assert instrument.clock == ("virtual" if camera == "virtual" else "real")
    text = path.read_text()
    assert max(map(len, text.splitlines())) <= 100
    sections = sections_of(text)
    missing = []
    for name, part in instrument:
        if name in sections:
            said = sections[name]
            if "core: *core" in said:
                said += "\n" + sections["stage"].partition("\n")[2]
            missing += said_wrong(said, type(part).model_json_schema())
    assert missing == []
    assert {"optics", "stage", "camera", "scan", "calibration"} <= set(sections)


@pytest.mark.parametrize(("stage", "camera"), PAIRS)
def test_what_only_the_user_knows_is_marked(
    stage: StageKind, camera: CameraKind
) -> None:
    text = instrument_text(stage, camera)
    filled = {key for key, said in comments_of(text).items() if "FILL IN" in said}
    if camera == "virtual":
        assert filled == set()
        return
    wanted = {"na", "pixel_um", "width_px", "exposure_s", "region_um"}
    if stage != "virtual":
        wanted |= {"x_um", "z_um", "speed_um_per_s", "bed_focus_um", "take_up_um"}
        wanted |= {"xy_device"} if stage == "micromanager" else {"port"}
    assert wanted <= filled
    assert "region_um" not in yaml.safe_load(text)["scan"]


def test_all_kinds_there_are_can_be_written() -> None:
    for section, kinds in (("stage", STAGES), ("camera", CAMERAS)):
        schema = Instrument.model_json_schema()["properties"][section]
        assert set(schema["discriminator"]["mapping"]) == set(kinds)


def test_a_real_file_can_be_planned_once_its_region_is_known(tmp_path: Path) -> None:
    for stage in STAGES[1:]:
        path = tmp_path / f"{stage}.yaml"
        outcome = run_cli("init", path, "--stage", stage, "--camera", "opencv")
        assert outcome.out.endswith(f"FILL IN marks; next: bifocus doctor {path}\n")
        assert run_cli("plan", path).fails(2, "no scan.region_um", "--region X Y")
        x_um, y_um = (
            load_instrument(path).stage.x_um,
            load_instrument(path).stage.y_um,
        )
        region = (x_um[0] + 500, y_um[0] + 500, 900, 900)
        assert run_cli("plan", path, "--region", *region).code == 0


def test_micromanager_is_described_once() -> None:
    document = yaml.safe_load(instrument_text("micromanager", "micromanager"))
    assert document["stage"]["core"] is document["camera"]["core"]


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_virtual_camera_sees_no_real_stage(tmp_path: Path, stage: str) -> None:
    path = tmp_path / "scanner.yaml"
    outcome = run_cli("init", path, "--stage", stage, "--camera", "virtual")
    assert outcome.fails(2, f"--stage {stage}", "cannot see", "--stage virtual")
    assert not path.exists()


def test_the_virtual_file_can_be_planned_at_once(tmp_path: Path) -> None:
    path = tmp_path / "scanner.yaml"
    outcome = run_cli("init", path)
    assert outcome.code == 0
    assert outcome.out == f"wrote {path}; next: bifocus plan {path}\n"
    assert run_cli("plan", path).code == 0


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "scanner.yaml"
    path.write_text("mine")
    assert run_cli("init", path).fails(2, f"{path}: exists already", "another name")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("option", ["--stage", "--camera"])
def test_unknown_kinds_are_refused(tmp_path: Path, option: str) -> None:
    path = tmp_path / "scanner.yaml"
    assert run_cli("init", path, option, "grbI").fails(2, option, "grbI", "virtual")
    assert not path.exists()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "scanner.yaml"
    assert run_cli("init", path).fails(1, str(path), "Not a directory")


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    path = tmp_path / "scanner.yaml"
    assert run_cli("init", path).fails(1, str(path), "No space left on device")
    assert not list(tmp_path.iterdir())
