"""Whole jobs on one instrument: plan, calibrate, scan. Commands are thin over these.

Here calibration and the loop meet; neither knows of the other.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from bifocus.calib.procedure import OnStep, calibrate_briefly, calibrate_into
from bifocus.calib.profile_file import read_profile, write_profile
from bifocus.calib.profile_identity import check_identity, read_identity
from bifocus.calib.report import write_calibration_report
from bifocus.calib.step_result import Bench
from bifocus.calib.verify import Verification, verify
from bifocus.clock import VirtualClock
from bifocus.config import EngineName, Instrument, load_instrument
from bifocus.edge.engine_choice import EngineWish, choose_fuser
from bifocus.edge.live_page import Onlookers, let_look_on
from bifocus.edge.plan import Region, ScanPlan, check_travel, plan_scan
from bifocus.edge.scan import Progress, Scan, ScanResult
from bifocus.edge.scan_events import ScanControl, ScanEvents
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.slide_settings import load_label
from bifocus.errors import ConfigError, SlideFileError
from bifocus.hal.calibration_truth import calibration_truth
from bifocus.hal.open_instrument import OpenInstrument, open_instrument
from bifocus.hal.virtual_stage import VirtualStage
from bifocus.records import InstrumentProfile
from bifocus.whole_file import write_whole

logger = logging.getLogger(__name__)

# Properties of a scan's journal, which tell how to go on with it.
REGION, MODEL, ENGINE, INSTRUMENT = "region_um", "model", "engine", "instrument"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentFile:
    """An instrument file that was read: its path and its checked contents."""

    path: Path
    config: Instrument

    @classmethod
    def load(cls, path: Path) -> "InstrumentFile":
        """Read and check the file; see `bifocus.config.load_instrument`."""
        return cls(path=path, config=load_instrument(path))

    def region_um(self, wanted: Region | None) -> Region:
        """Return the region to scan: the wanted one, else the file's own.

        Raises
        ------
        ConfigError
            If neither names one.
        """
        region = wanted or self.config.scan.region_um
        if region is None:
            msg = f"{self.path}: no scan.region_um; give --region X Y WIDTH HEIGHT"
            raise ConfigError(msg)
        return region

    def plan(self, region_um: Region, focus_um: float) -> ScanPlan:
        """Return the tiles of a region, with this instrument's camera and overlap."""
        config = self.config
        return plan_scan(
            region_um,
            field_px=(config.camera.width_px, config.camera.height_px),
            pixel_um=config.optics.pixel_um,
            overlap=config.scan.overlap,
            focus_um=focus_um,
        )

    def plan_dry(self, region_um: Region) -> ScanPlan:
        """Return the plan without any device, checked against the file's travel.

        Raises
        ------
        OutOfTravelError
            If a tile lies outside.
        """
        config = self.config
        focus_um = config.calibration.z_start_um
        if focus_um is None:
            focus_um = sum(config.stage.z_um) / 2
        plan = self.plan(region_um, focus_um)
        stage = VirtualStage(
            config.stage.virtual_twin(), clock=VirtualClock(), seed=config.seed
        )
        check_travel(plan.visits, stage.limits, config.scan.half_spacing_um)
        return plan


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedInstrument:
    """What a calibration made.

    `report` is None after a brief one; `truth`, by the keys of the profile's values, is
    there only on a virtual instrument.
    """

    profile: InstrumentProfile
    path: Path
    report: Path | None = None
    truth: dict[str, float] | None = None


def calibrate_instrument(
    instrument: InstrumentFile,
    region_um: Region,
    out: Path,
    *,
    only: Sequence[str] = (),
    is_fresh: bool = False,
    is_brief: bool = False,
    on_step: OnStep | None = None,
) -> CalibratedInstrument:
    """Calibrate and write `profile.yaml` into the folder `out`.

    Parameters
    ----------
    only, is_fresh, on_step
        As `bifocus.calib.procedure.calibrate_into`.
    is_brief
        Measure only what a scan cannot do without, and keep no steps.

    Raises
    ------
    BifocusError
        If instrument, slide or disk do not allow it; an older profile is kept.
    """
    instrument.plan_dry(region_um)
    _check_writable(out)
    path, made = out / "profile.yaml", None
    with _open(instrument) as devices:
        bench = bench_of(devices, region_um)
        if is_brief:
            profile = calibrate_briefly(bench, on_step)
            write_profile(path, profile)
        else:
            made = calibrate_into(
                bench, out, only=only, is_fresh=is_fresh, on_step=on_step
            )
            profile = made.profile
        truth = _truth_of(devices, profile, region_um)
    report = None
    if made is not None:
        report = write_calibration_report(out, profile, made.results, instrument.config)
    return CalibratedInstrument(profile=profile, path=path, report=report, truth=truth)


def _truth_of(
    devices: OpenInstrument, profile: InstrumentProfile, region_um: Region
) -> dict[str, float] | None:
    """Return the truth of the values that a profile has, on a virtual instrument."""
    if devices.truth is None:
        return None
    truth = calibration_truth(devices.truth, devices.config, profile, region_um)
    return {key: value for key, value in truth.items() if key in profile.values}


def verify_instrument(
    instrument: InstrumentFile, profile: InstrumentProfile, region_um: Region, out: Path
) -> Verification:
    """Verify an instrument against its profile; see `bifocus.calib.verify.verify`."""
    _check_writable(out)
    with _open(instrument) as devices:
        bench = bench_of(devices, region_um)
        return verify(bench, profile, out, datetime.now(timezone.utc))


def bench_of(devices: OpenInstrument, region_um: Region) -> Bench:
    """Return an open instrument as the steps of calibration take it."""
    return Bench(
        stage=devices.stage,
        camera=devices.camera,
        clock=devices.clock,
        config=devices.config,
        region_um=region_um,
    )


def scan_instrument(
    instrument: InstrumentFile,
    out: Path,
    *,
    region_um: Region,
    strategy: str = "two-shot",
    model: str = "auto",
    engine: EngineName | None = None,
    profile: Path | InstrumentProfile | None = None,
    record: Path | None = None,
    onlookers: Onlookers | None = None,
    progress: Progress | None = None,
) -> ScanResult:
    """Scan a region into the folder `out`; calibrate first where no profile is given.

    Without `engine`, the file's `scan.engine` counts. `record` is the folder of a
    recording of the wire and the frames, for `bifocus.hal.replay`; `onlookers` are
    who may watch: the live page, and a fleet's monitoring.

    Raises
    ------
    BifocusError
        As `bifocus.edge.scan.Scan.run`; and `ConfigError` for a profile of other
        hardware.
    """
    instrument.plan_dry(region_um)
    wish = EngineWish.of(instrument.config.scan, engine)
    label = load_label(instrument.config.scan, instrument.path.parent)
    with closing(choose_fuser(model, wish)) as fuser:
        folder = ScanFolder(out)
        if folder.journal.exists():
            msg = f"{out}: holds a scan already; choose another folder"
            raise SlideFileError(msg)
        known = read_profile(profile) if isinstance(profile, Path) else profile
        _check_writable(out)
        with _open(instrument, record) as devices:
            used = _profile_for(devices, known, region_um)
            # Before the first tile: a scan that is cut short needs them as much.
            write_profile(folder.profile, used)
            copy_whole(instrument.path, folder.instrument)
            plan = instrument.plan(region_um, used.focus_um.value)
            events, control = ScanEvents(), ScanControl()
            with let_look_on(
                onlookers or Onlookers(),
                folder,
                plan,
                config=instrument.config,
                profile=used,
                strategy=strategy,
                events=events,
                control=control,
            ):
                return Scan(
                    stage=devices.stage,
                    camera=devices.camera,
                    clock=devices.clock,
                    config=instrument.config,
                    profile=used,
                    plan=plan,
                    folder=folder,
                    fuser=fuser,
                    strategy=strategy,
                    truth=devices.truth,
                    events=events,
                    control=control,
                    label=label,
                    properties={
                        REGION: json.dumps(region_um),
                        MODEL: model,
                        ENGINE: engine or "",
                        INSTRUMENT: str(instrument.path.absolute()),
                    },
                ).run(progress)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all.

    Raises
    ------
    SlideFileError
        If the copy cannot be written.
    """
    try:
        content = source.read_bytes()
    except OSError as error:
        msg = f"{target}: cannot write it: {error.strerror}: {source}"
        raise SlideFileError(msg) from error
    write_whole(target, content)


@contextmanager
def _open(
    instrument: InstrumentFile, record: Path | None = None
) -> Iterator[OpenInstrument]:
    """Open the instrument for a job; a stage with switches finds its reference."""
    with open_instrument(
        instrument.config, base_dir=instrument.path.parent, record=record
    ) as devices:
        if devices.stage.capabilities.needs_home:
            devices.stage.home()
        yield devices


def _profile_for(
    devices: OpenInstrument, known: InstrumentProfile | None, region_um: Region
) -> InstrumentProfile:
    if known is None:
        logger.info("no profile given: calibrating first")
        return calibrate_briefly(bench_of(devices, region_um))
    identity = read_identity(devices.stage, devices.camera, devices.config)
    check_identity(known, identity)
    return known


def _check_writable(folder: Path) -> None:
    """Find out now, not after the work, that the output folder cannot be written."""
    probe = folder / ".bifocus-write-test"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        msg = f"{folder}: cannot write there: {error.strerror}; choose another folder"
        raise SlideFileError(msg) from error
