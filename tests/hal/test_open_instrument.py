"""The whole virtual instrument: one truth behind stage and camera."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bifocus.clock import RealClock, VirtualClock
from bifocus.errors import ConfigError, DeviceError
from bifocus.hal.open_instrument import open_instrument
from bifocus.records import StagePosition


def test_the_file_chooses_the_clock(make_config: Any, tmp_path: Path) -> None:
    config = make_config()
    with open_instrument(config, base_dir=tmp_path) as instrument:
        assert isinstance(instrument.clock, VirtualClock)
    real = config.model_copy(update={"clock": "real"})
    with open_instrument(real, base_dir=tmp_path) as instrument:
        assert isinstance(instrument.clock, RealClock)


def test_leaving_closes_both_devices(open_small: Any, make_config: Any) -> None:
    with open_instrument(make_config(), base_dir=Path()) as instrument:
        pass
    with pytest.raises(DeviceError):
        instrument.stage.move_to(instrument.stage.position())
    with pytest.raises(DeviceError):
        instrument.camera.grab()


def test_a_missing_tissue_is_a_config_error(make_config: Any, tmp_path: Path) -> None:
    config = make_config(virtual_slide={"tissue": "missing.png"})
    with (
        pytest.raises(ConfigError, match=r"missing\.png"),
        open_instrument(config, base_dir=tmp_path),
    ):
        pass


def test_the_sharpest_frame_is_at_the_true_focus(open_small: Any) -> None:
    instrument = open_small(
        virtual_slide={"tilt_mrad": (3.0, 0.0), "relief_um": 1.0, "thickness_um": 0.4},
        stage={"take_up_um": (6, 6, 4), "mechanics": {"backlash_um": (5, 5, 3)}},
    )
    truth = instrument.truth
    x_um, y_um = truth.slide.centre_um
    focus_um = truth.mean_focus_um(x_um, y_um)
    assert abs(focus_um - truth.height_um(x_um, y_um)) < 0.2
    picture = truth.encode(truth.render_truth(x_um, y_um)).astype(float)
    offsets_um = np.arange(-1.5, 1.6, 0.5)
    errors = []
    for offset_um in offsets_um:
        target = StagePosition(x_um=x_um, y_um=y_um, z_um=focus_um + offset_um)
        frame = instrument.camera.grab(after=instrument.stage.move_to(target))
        errors.append(np.mean((frame.pixels - picture) ** 2))
    assert offsets_um[int(np.argmin(errors))] == 0.0


def test_the_same_file_gives_the_same_run(make_config: Any, tmp_path: Path) -> None:
    config = make_config(
        stage={"mechanics": {"repeatability_um": (0.2, 0.2, 0.1)}},
    )
    pictures = []
    for _ in range(2):
        with open_instrument(config, base_dir=tmp_path) as instrument:
            here = instrument.stage.position()
            target = StagePosition(x_um=here.x_um + 4, y_um=here.y_um, z_um=here.z_um)
            receipt = instrument.stage.move_to(target)
            pictures.append(instrument.camera.grab(after=receipt).pixels)
    assert np.array_equal(pictures[0], pictures[1])


def test_the_log_says_what_lies_on_the_stage(
    make_config: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "bifocus"):
        with open_instrument(make_config(), base_dir=tmp_path) as instrument:
            assert instrument.truth is not None
            assert instrument.truth.tissue_description in caplog.text
