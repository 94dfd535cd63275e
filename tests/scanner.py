"""A small, quick virtual scanner for the tests of calibration and scan."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bifocus.calib.profile_identity import read_identity
from bifocus.config import Instrument
from bifocus.edge.plan import ScanPlan, plan_scan
from bifocus.hal.devices import (
    Camera,
    CameraCapabilities,
    Stage,
    StageCapabilities,
    StageLimits,
)
from bifocus.hal.open_instrument import OpenInstrument, open_instrument
from bifocus.hal.virtual_truth import VirtualTruth
from bifocus.records import (
    FlatField,
    Frame,
    InstrumentProfile,
    Measured,
    MoveReceipt,
    StagePosition,
)

# On the tissue, which spans x 372..628 and y 304..496 um.
REGION_UM = (380.0, 310.0, 224.0, 168.0)
CENTRE_UM = (500.0, 400.0)


def scanner_config(*, seed: int = 11, **changes: Any) -> Instrument:
    """A 256x256 px camera over 256 x 192 um of tissue; play, scatter and noise."""
    sections: dict[str, dict[str, Any]] = {
        "optics": {"na": 0.75, "pixel_um": 0.25},
        "stage": {
            "kind": "virtual",
            "x_um": (0.0, 1000.0),
            "y_um": (0.0, 800.0),
            "z_um": (0.0, 300.0),
            "speed_um_per_s": (2000.0, 2000.0, 500.0),
            "acceleration_um_per_s2": (20000.0, 20000.0, 5000.0),
            "step_um": (0.1, 0.1, 0.05),
            "settle_s": 0.1,
            "take_up_um": (6.0, 6.0, 4.0),
            "mechanics": {
                "backlash_um": (5.0, 5.0, 3.0),
                "repeatability_um": (0.1, 0.1, 0.02),
            },
        },
        "camera": {"kind": "virtual", "width_px": 256, "height_px": 256},
        "virtual_slide": {
            "tissue": "procedural:768x1024",
            "x_um": 372.0,
            "y_um": 304.0,
            "focus_um": 150.0,
        },
        "scan": {},
        "calibration": {"z_start_um": 147.0, "coarse_range_um": 16.0},
    }
    for name, change in changes.items():
        sections[name] = {**sections.get(name, {}), **change}
    document = {"version": 1, "name": "small scanner", "seed": seed, "clock": "virtual"}
    return Instrument.model_validate({**document, **sections})


def glass_only(**changes: Any) -> Instrument:
    """The same scanner with the tissue far away: the camera sees clear glass."""
    return scanner_config(virtual_slide={"x_um": -3000.0}, **changes)


@contextmanager
def open_scanner(config: Instrument) -> Iterator[OpenInstrument]:
    with open_instrument(config, base_dir=Path()) as instrument:
        yield instrument


def truth_of(instrument: OpenInstrument) -> VirtualTruth:
    assert instrument.truth is not None
    return instrument.truth


def ideal_profile(
    instrument: OpenInstrument,
    *,
    centre_um: tuple[float, float] = CENTRE_UM,
    focus_error_um: float = 0.0,
    flat_field: FlatField | None = None,
) -> InstrumentProfile:
    """A profile as calibration would make it, from the hidden truth: costs nothing."""
    x_um, y_um = centre_um
    focus_um = truth_of(instrument).mean_focus_um(x_um, y_um)
    config = instrument.config
    return InstrumentProfile(
        identity=read_identity(instrument.stage, instrument.camera, config),
        created_utc="2026-03-01T12:00:00+00:00",
        software_version="test",
        raw_sha256="0" * 64,
        focus_um=Measured(
            value=focus_um + focus_error_um, standard_uncertainty=0.02, method="truth"
        ),
        focus_x_um=x_um,
        focus_y_um=y_um,
        half_spacing_um=Measured(
            value=config.scan.half_spacing_um, standard_uncertainty=0.02, method="file"
        ),
        flat_field=flat_field,
        simulated=True,
    )


def plan_region(
    config: Instrument,
    focus_um: float,
    region_um: tuple[float, float, float, float] = REGION_UM,
) -> ScanPlan:
    return plan_scan(
        region_um,
        field_px=(config.camera.width_px, config.camera.height_px),
        pixel_um=config.optics.pixel_um,
        overlap=config.scan.overlap,
        focus_um=focus_um,
    )


class RecordingStage:
    """Passes everything on, and remembers targets and stops."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.targets: list[StagePosition] = []
        self.receipts: list[MoveReceipt] = []
        self.stops = 0

    @property
    def limits(self) -> StageLimits:
        return self._stage.limits

    @property
    def capabilities(self) -> StageCapabilities:
        return self._stage.capabilities

    def position(self) -> StagePosition:
        return self._stage.position()

    def move_to(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        self.targets.append(position)
        receipt = self._stage.move_to(position, wait)
        self.receipts.append(receipt)
        return receipt

    def stop(self) -> None:
        self.stops += 1
        self._stage.stop()

    def home(self) -> MoveReceipt:
        return self._stage.home()

    def close(self) -> None:
        self._stage.close()


class RecordingCamera:
    """Passes everything on, keeps the frames, and fails after some of them."""

    def __init__(
        self,
        camera: Camera,
        *,
        dies_after: int | None = None,
        error: BaseException | None = None,
    ) -> None:
        self._camera = camera
        self._dies_after = dies_after
        self._error = error
        self.frames: list[Frame] = []

    @property
    def capabilities(self) -> CameraCapabilities:
        return self._camera.capabilities

    def configure(self, *, exposure_s: float) -> None:
        self._camera.configure(exposure_s=exposure_s)

    def grab(self, after: MoveReceipt | None = None) -> Frame:
        if self._error is not None and len(self.frames) == self._dies_after:
            raise self._error
        frame = self._camera.grab(after)
        self.frames.append(frame)
        return frame

    def close(self) -> None:
        self._camera.close()
