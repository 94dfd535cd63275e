"""The example files: they load, open, hold together, and keep the product's promise."""

import math
from pathlib import Path

import numpy as np
import pytest

from bifocus.camera_config import VirtualCameraConfig
from bifocus.clock import VirtualClock
from bifocus.config import Instrument, load_instrument
from bifocus.hal.open_instrument import open_instrument
from bifocus.hal.sensor import Sensor
from bifocus.hal.virtual_camera import VirtualCamera
from bifocus.hal.virtual_stage import VirtualStage
from bifocus.records import FloatImage, StagePosition

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture
def config(path: Path) -> Instrument:
    return load_instrument(path)


def test_all_three_are_there() -> None:
    names = {path.stem for path in EXAMPLES}
    assert {"openflexure", "printer-stage", "asi-ms2000"} <= names


def test_it_opens_and_sees_tissue(config: Instrument, path: Path) -> None:
    assert config.virtual_slide is not None
    assert config.virtual_slide.tissue == "demo"
    slide = config.virtual_slide.model_copy(update={"tissue": "procedural:600x800"})
    offline = config.model_copy(update={"virtual_slide": slide})
    with open_instrument(offline, base_dir=path.parent) as instrument:
        assert isinstance(instrument.clock, VirtualClock)
        truth = instrument.truth
        assert truth is not None
        x_um, y_um = truth.slide.centre_um
        target = StagePosition(
            x_um=x_um, y_um=y_um, z_um=truth.mean_focus_um(x_um, y_um)
        )
        frame = instrument.camera.grab(after=instrument.stage.move_to(target))
    assert 40 < frame.pixels.mean() < 235
    assert frame.pixels.std() > 20


def test_every_number_of_the_machine_has_its_source(path: Path) -> None:
    """Each number under stage and camera has a comment on its line or just above."""
    section, covered = "", False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith((" ", "#")):
            section = line.rstrip(":")
        text = line.strip()
        has_number = any(c.isdigit() for c in text.split("#")[0].partition(":")[2])
        if section in ("stage", "camera") and not text.startswith("#"):
            named = text.startswith(("name:", "width_px", "height_px"))
            assert not has_number or covered or "#" in text or named, line
        # A comment covers the lines up to the next comment or key of another kind.
        covered = text.startswith("#") or (covered and has_number)


def test_mechanics_fit_the_policy(config: Instrument) -> None:
    stage = config.stage
    assert stage.kind == "virtual"
    mechanics = stage.mechanics
    for take_up, backlash in zip(stage.take_up_um, mechanics.backlash_um, strict=True):
        assert take_up > backlash
    settled = math.exp(-stage.settle_s / mechanics.ring_decay_s)
    # A tenth of a pixel, and a fifth of the tolerance in z.
    assert mechanics.ring_amplitude_um * settled < 0.025
    assert config.scan.half_spacing_um == 0.75


def test_the_region_lies_on_the_tissue_and_in_the_travel(config: Instrument) -> None:
    slide, region, stage = config.virtual_slide, config.scan.region_um, config.stage
    assert slide is not None
    assert region is not None
    x_um, y_um, width_um, height_um = region
    tissue_width_um, tissue_height_um = 2220 * 0.25, 2967 * 0.25
    assert slide.x_um <= x_um
    assert x_um + width_um <= slide.x_um + tissue_width_um
    assert slide.y_um <= y_um
    assert y_um + height_um <= slide.y_um + tissue_height_um
    assert width_um * height_um > 0.5 * tissue_width_um * tissue_height_um
    assert stage.x_um[0] + 100 < x_um < stage.x_um[1] - 2000
    assert stage.z_um[0] + 30 < slide.focus_um < stage.z_um[1] - 30
    start_um = config.calibration.z_start_um
    assert start_um is not None
    assert abs(start_um - slide.focus_um) < config.calibration.coarse_range_um / 2 - 3


class BlankRenderer:
    """Costs nothing: only time is measured here."""

    def render(self, x_um: float, y_um: float, z_um: float) -> FloatImage:
        return np.ones((8, 8, 3), np.float32)


def tile_time_s(config: Instrument, z_offsets_um: list[float]) -> float:
    """Mean time of a tile over two serpentine rows, every shot by the rules."""
    assert isinstance(config.camera, VirtualCameraConfig)
    clock = VirtualClock()
    stage = VirtualStage(config.stage.virtual_twin(), clock=clock, seed=1)
    camera = VirtualCamera(
        config.camera,
        renderer=BlankRenderer(),  # type: ignore[arg-type]
        sensor=Sensor(
            full_well_e=1e4,
            read_noise_e=1,
            white_level=0.9,
            falloff=0,
            tone_curve="linear",
        ),
        poses=stage,
        clock=clock,
        seed=1,
    )
    assert config.scan.region_um is not None
    assert config.virtual_slide is not None
    keep_um = config.optics.pixel_um * (1 - config.scan.overlap)
    x_step_um = config.camera.width_px * keep_um
    y_step_um = config.camera.height_px * keep_um
    left_um, top_um = config.scan.region_um[:2]
    focus_um = config.virtual_slide.focus_um
    stage.move_to(StagePosition(x_um=left_um, y_um=top_um, z_um=focus_um))
    begin_s = clock.monotonic_s()
    for row, column in [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]:
        for offset_um in z_offsets_um:
            target = StagePosition(
                x_um=left_um + column * x_step_um,
                y_um=top_um + row * y_step_um,
                z_um=focus_um + offset_um,
            )
            camera.grab(after=stage.move_to(target))
    return (clock.monotonic_s() - begin_s) / 6


def stack_offsets_um(config: Instrument) -> list[float]:
    """The planes of a classical stack, upward, and the final shot at the best one."""
    scan = config.scan
    half = scan.stack_planes // 2
    return [i * scan.stack_step_um for i in range(-half, half + 1)] + [0.0]


def test_two_shots_are_six_times_as_fast_as_a_stack(config: Instrument) -> None:
    half_um = config.scan.half_spacing_um
    stack_s = tile_time_s(config, stack_offsets_um(config))
    pair_s = tile_time_s(config, [-half_um, half_um])
    assert stack_s / pair_s > 6.0


def test_on_the_slow_stage_a_step_is_under_one_and_a_half_planes() -> None:
    config = load_instrument(EXAMPLES[0].with_name("openflexure.yaml"))
    offsets_um = [0.5 * i for i in range(20)]
    plane_s = tile_time_s(config, offsets_um) / 20
    step_um = (
        config.camera.width_px * config.optics.pixel_um * (1 - config.scan.overlap)
    )
    assert step_um / config.stage.speed_um_per_s[0] < 1.5 * plane_s
    assert 3.0 < tile_time_s(config, [-0.75, 0.75]) < 4.0
    assert 20.0 < tile_time_s(config, stack_offsets_um(config)) < 25.0
