"""Freshness, noise and determinism of the virtual camera."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bifocus.clock import FakeClock
from bifocus.errors import DeviceError
from bifocus.hal.devices import EarlyCamera
from bifocus.hal.open_instrument import OpenInstrument
from bifocus.hal.sensor import Sensor, illumination
from bifocus.records import FloatImage, StagePosition, UInt8Image
from tests.scanner import open_scanner, scanner_config

PERIOD_S = 0.05
CAMERA = {"frame_rate_hz": 20.0, "exposure_s": 0.01, "transfer_s": 0.03}


def psnr_db(one: UInt8Image, other: UInt8Image) -> float:
    difference = one.astype(np.float64) - other
    return float(10 * np.log10(255**2 / max((difference**2).mean(), 1e-9)))


def expected_at(instrument: OpenInstrument, place: StagePosition) -> UInt8Image:
    assert instrument.truth is not None
    renderer = instrument.truth.renderer
    light = renderer.render(place.x_um, place.y_um, place.z_um)
    return instrument.truth.encode(light)


@pytest.mark.parametrize("stale_frames", [1, 3])
def test_a_plain_grab_after_a_move_shows_the_old_place(
    open_small: Any,
    clock: FakeClock,
    stale_frames: int,
) -> None:
    instrument = open_small(
        camera={**CAMERA, "stale_frames": stale_frames},
        stage={"settle_s": 0.0},
    )
    clock.sleep(1.0)
    old = instrument.stage.position()
    target = StagePosition(x_um=old.x_um + 3.0, y_um=old.y_um + 2.0, z_um=old.z_um)
    old_picture, new_picture = (expected_at(instrument, at) for at in (old, target))
    assert psnr_db(old_picture, new_picture) < 25
    # Fast stage: the move is over before the waiting frame is fetched.
    instrument.stage._config = instrument.stage._config.model_copy(
        update={
            "speed_um_per_s": (1e5, 1e5, 1e5),
            "acceleration_um_per_s2": (1e8, 1e8, 1e8),
        }
    )
    receipt = instrument.stage.move_to(target)
    stale = instrument.camera.grab()
    assert stale.exposure_start_s < receipt.start_s
    assert psnr_db(stale.pixels, old_picture) > 30
    assert psnr_db(stale.pixels, new_picture) < 25
    fresh = instrument.camera.grab(after=receipt)
    assert fresh.exposure_start_s >= receipt.settled_s
    assert psnr_db(fresh.pixels, new_picture) > 30
    assert fresh.pose == receipt.reported


def test_discarded_frames_are_counted_and_never_rendered(
    open_small: Any,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    instrument = open_small(camera={**CAMERA, "stale_frames": 4})
    camera = instrument.camera
    rendered: list[float] = []
    blank = np.ones((64, 80, 3), np.float32)

    def counting(x_um: float, y_um: float, z_um: float) -> FloatImage:
        rendered.append(z_um)
        return blank

    monkeypatch.setattr(camera._renderer, "render", counting)
    clock.sleep(1.0)
    receipt = instrument.stage.move_to(instrument.stage.position())
    camera.grab(after=receipt)
    assert camera.discarded_frames >= 4
    assert len(rendered) == 1


def test_time_of_a_grab_is_next_exposure_plus_transfer(
    open_small: Any,
    clock: FakeClock,
) -> None:
    instrument = open_small(camera=CAMERA)
    clock.sleep(0.321)
    receipt = instrument.stage.move_to(instrument.stage.position())
    frame = instrument.camera.grab(after=receipt)
    wait_s = frame.exposure_start_s - receipt.settled_s
    assert 0 <= wait_s < PERIOD_S
    assert frame.exposure_start_s / PERIOD_S == pytest.approx(
        round(frame.exposure_start_s / PERIOD_S)
    )
    assert clock.monotonic_s() == pytest.approx(frame.exposure_end_s + 0.03)


def test_a_long_exposure_sets_the_rate(
    open_small: Any,
) -> None:
    camera = open_small(camera=CAMERA).camera
    camera.configure(exposure_s=0.2)
    first, second = camera.grab(), camera.grab()
    assert second.exposure_start_s - first.exposure_start_s == pytest.approx(0.2)


def test_exposure_time_scales_the_light(
    open_small: Any,
) -> None:
    instrument = open_small(camera={**CAMERA, "read_noise_e": 0.0})
    full = instrument.camera.grab().pixels.mean()
    instrument.camera.configure(exposure_s=0.005)
    assert instrument.camera.grab().pixels.mean() == pytest.approx(full / 2, rel=0.01)


def test_noise_depends_on_seed_and_number_alone(
    open_small: Any,
) -> None:
    first, second = (open_small(on=FakeClock()) for _ in range(2))
    second.camera.grab()  # a detour: noise of later frames must not depend on it
    for instrument in (first, second):
        instrument.clock.sleep(2.0 - instrument.clock.monotonic_s())
    one, other = first.camera.grab(), second.camera.grab()
    assert one.sequence_number == other.sequence_number
    assert np.array_equal(one.pixels, other.pixels)
    following = first.camera.grab()
    assert not np.array_equal(one.pixels, following.pixels)


GLASS = np.ones((200, 240, 3), np.float32)


def make_sensor(**changes: Any) -> Sensor:
    settings: dict[str, Any] = {
        "full_well_e": 10000.0,
        "read_noise_e": 20.0,
        "white_level": 0.8,
        "falloff": 0.0,
        "tone_curve": "linear",
    }
    return Sensor(**{**settings, **changes})


@pytest.mark.parametrize("light", [1.0, 0.25])
def test_noise_is_shot_plus_read(light: float) -> None:
    sensor = make_sensor()
    levels = sensor.expose(GLASS * np.float32(light), np.random.default_rng(1))
    electrons = light * 0.8 * 10000
    expected = 255 * np.sqrt(electrons + 20.0**2) / 10000
    # Rounding to whole levels adds 1/12; 144,000 samples give 0.2 % of spread.
    assert levels.std() == pytest.approx(np.hypot(expected, 12**-0.5), rel=0.01)
    assert levels.mean() == pytest.approx(255 * light * 0.8, abs=0.05)


def test_light_falls_off_to_the_corner() -> None:
    gain = illumination((101, 151), 0.3)
    assert gain[50, 75] == pytest.approx(1.0)
    assert gain[0, 0] == pytest.approx(0.7)
    assert gain[-1, -1] == pytest.approx(0.7)
    assert gain[50, 0] == pytest.approx(1 - 0.3 * 151**2 / (151**2 + 101**2))


def test_the_tone_curve_is_applied_last() -> None:
    grey = np.full((4, 4, 3), 0.5, np.float32)
    # sRGB of 0.4 in linear light: 1.055 x 0.4^(1/2.4) - 0.055 = 0.6652.
    assert make_sensor(tone_curve="srgb").encode(grey)[0, 0, 0] == round(255 * 0.6652)
    assert make_sensor().encode(grey)[0, 0, 0] == round(255 * 0.4)


def test_dark_level_and_white_balance_are_added_to_what_the_sensor_counts() -> None:
    sensor = make_sensor(dark_level=5.0, white_balance=(0.9, 1.0, 0.6))
    levels = sensor.expose(GLASS, np.random.default_rng(2)).mean(axis=(0, 1))
    expected = 255 * 0.8 * np.array([0.9, 1.0, 0.6]) + 5
    assert levels == pytest.approx(expected, abs=0.08)  # 48,000 samples of 2.4 levels
    # The picture that truth is compared with: the same without noise.
    assert sensor.encode(GLASS)[0, 0].tolist() == np.rint(expected).tolist()


def test_without_lamp_only_the_dark_is_left() -> None:
    sensor = make_sensor(dark_level=5.0, is_lamp_on=False)
    levels = sensor.expose(GLASS, np.random.default_rng(2))
    # Read noise alone: 20 of 10,000 electrons, and rounding.
    assert levels.mean() == pytest.approx(5.0, abs=0.02)
    assert levels.std() == pytest.approx(np.hypot(0.51, 12**-0.5), rel=0.02)


def test_the_light_may_be_brightest_beside_the_middle() -> None:
    gain = illumination((101, 151), 0.3, (0.5, -0.2))
    assert gain.max() == pytest.approx(1.0, abs=1e-3)
    assert int(gain.argmax()) == 40 * 151 + 112
    assert gain[40, 0] < gain[40, -1]


def test_a_frame_begun_early_is_the_one_that_grab_would_give() -> None:
    with (
        open_scanner(scanner_config()) as first,
        open_scanner(scanner_config()) as other,
    ):
        frames = []
        for instrument in (first, other):
            here = instrument.stage.position()
            target = replace(here, z_um=here.z_um + 2.0)
            receipt = instrument.stage.move_to(target)
            camera = instrument.camera
            if instrument is first:
                frames.append(camera.grab(after=receipt))
                continue
            assert isinstance(camera, EarlyCamera)
            before_s = instrument.clock.monotonic_s()
            pending = camera.begin(receipt)
            assert instrument.clock.monotonic_s() == before_s
            instrument.clock.sleep(pending.exposure_end_s - before_s)
            # The stage is elsewhere by the time the frame is fetched.
            instrument.stage.move_to(here)
            frames.append(pending.get())
            assert frames[1].exposure_end_s == pending.exposure_end_s
    assert np.array_equal(frames[0].pixels, frames[1].pixels)
    assert frames[0].pose == frames[1].pose


def test_a_pending_frame_of_a_closed_camera_is_an_error() -> None:
    with open_scanner(scanner_config()) as instrument:
        receipt = instrument.stage.move_to(instrument.stage.position())
        assert isinstance(instrument.camera, EarlyCamera)
        pending = instrument.camera.begin(receipt)
        instrument.camera.close()
        with pytest.raises(DeviceError, match="closed"):
            pending.get()


@pytest.mark.parametrize("tone_curve", ["linear", "srgb"])
def test_the_truth_of_the_levels_is_what_a_long_mean_shows(tone_curve: str) -> None:
    sensor = make_sensor(
        dark_level=6.0, white_balance=(0.9, 1.0, 0.6), tone_curve=tone_curve
    )
    truth = sensor.true_values()
    rng = np.random.default_rng(5)
    glass = sensor.expose(GLASS, rng).mean(axis=(0, 1))
    dark = sensor.expose(0 * GLASS, rng).mean()
    assert [truth[f"white_{colour}"] for colour in "rgb"] == pytest.approx(
        glass, abs=0.1
    )
    # Noise under a curve that bends lowers the mean: half of it times its variance.
    assert truth["dark_level"] == pytest.approx(dark, abs=0.1 + (tone_curve == "srgb"))
    assert truth["gain_e_per_level"] == pytest.approx(39.2157)
    assert truth["read_noise"] == 20.0
