"""Jobs on scans that are there already: go on with one, or fuse some anew."""

import json
import logging
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from bifocus.calib.profile_file import read_profile
from bifocus.calib.profile_identity import check_identity, read_identity
from bifocus.cluster import open_cluster
from bifocus.config import EngineName, load_instrument
from bifocus.edge.engine_choice import EngineWish, choose_fuser
from bifocus.edge.finish_scan import finish_scan
from bifocus.edge.fusers import Fuser
from bifocus.edge.journal import Journal
from bifocus.edge.live_page import Onlookers, let_look_on
from bifocus.edge.reprocess import FuseAnew, reprocess_scan
from bifocus.edge.scan import Progress, Scan, ScanResult
from bifocus.edge.scan_events import ScanControl, ScanEvents
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.scan_report import FINISHED
from bifocus.edge.slide_making import ScanSetup
from bifocus.edge.slide_settings import load_label
from bifocus.errors import ConfigError
from bifocus.hal.open_instrument import open_instrument
from bifocus.jobs import (
    ENGINE,
    INSTRUMENT,
    MODEL,
    REGION,
    InstrumentFile,
    copy_whole,
)

logger = logging.getLogger(__name__)


def resume_scan(
    root: Path,
    *,
    engine: EngineName | None = None,
    onlookers: Onlookers | None = None,
    progress: Progress | None = None,
    events: ScanEvents | None = None,
    control: ScanControl | None = None,
) -> ScanResult | None:
    """Go on with the scan in a folder, from the first tile that is not in its journal.

    Parameters
    ----------
    root
        The scan folder.
    engine
        Another engine for what is left; default: the scan's own.
    onlookers, progress, events, control
        As `bifocus.jobs.scan_instrument`.

    Returns
    -------
    ScanResult or None
        None if the scan is finished already: nothing was changed.

    Raises
    ------
    ConfigError
        If there is no scan, or the devices are not the ones that it was begun with.
    BifocusError
        As `bifocus.edge.scan.Scan.run`.
    """
    folder = ScanFolder(root)
    properties, n_captured = _look_into(folder)
    if FINISHED in properties:
        return None
    instrument, setup = _recall(folder, properties)
    wish = EngineWish.of(
        setup.config.scan, engine or _engine_named(properties.get(ENGINE, ""))
    )
    with ExitStack() as stack:
        fuser = choose_fuser(properties.get(MODEL, "auto"), wish)
        stack.enter_context(closing(fuser))
        folder.raw.mkdir(exist_ok=True)
        folder.fused.mkdir(exist_ok=True)
        events, control = events or ScanEvents(), control or ScanControl()
        stack.enter_context(
            let_look_on(
                onlookers or Onlookers(),
                folder,
                setup.plan,
                config=setup.config,
                profile=setup.profile,
                strategy=setup.strategy,
                events=events,
                control=control,
            )
        )
        if n_captured == len(setup.plan.visits):
            logger.info("%s: all tiles are captured: no devices are needed", root)
            return finish_scan(setup, fuser, events)
        return _go_on(instrument, setup, fuser, progress, events, control)


def recall_setup(folder: ScanFolder) -> ScanSetup:
    """Return what the scan in a folder was made with; raises as `resume_scan`."""
    properties, _ = _look_into(folder)
    return _recall(folder, properties)[1]


def scan_properties(folder: ScanFolder) -> dict[str, str]:
    """Return what the journal says of the whole scan; raises as `resume_scan`."""
    return _look_into(folder)[0]


def _look_into(folder: ScanFolder) -> tuple[dict[str, str], int]:
    if not folder.journal.exists():
        msg = (
            f"{folder.root}: holds no scan; where a scan had not begun, nothing is "
            "lost: begin it again with bifocus scan"
        )
        raise ConfigError(msg)
    with Journal(folder.journal) as journal:
        return journal.properties(), sum(1 for _ in journal.lines())


def _recall(
    folder: ScanFolder, properties: Mapping[str, str]
) -> tuple[InstrumentFile, ScanSetup]:
    if REGION not in properties:
        msg = f"{folder.root}: its journal names no region; scan it anew"
        raise ConfigError(msg)
    config = load_instrument(folder.instrument)
    # Relative paths in the file start where it was when the scan began.
    path = Path(properties.get(INSTRUMENT, folder.instrument))
    instrument = InstrumentFile(path=path, config=config)
    x_um, y_um, width_um, height_um = json.loads(properties[REGION])
    profile = read_profile(folder.profile)
    setup = ScanSetup(
        config=config,
        profile=profile,
        plan=instrument.plan((x_um, y_um, width_um, height_um), profile.focus_um.value),
        folder=folder,
        strategy=properties["strategy"],
        label=load_label(config.scan, path.parent),
    )
    return instrument, setup


def _go_on(
    instrument: InstrumentFile,
    setup: ScanSetup,
    fuser: Fuser,
    progress: Progress | None,
    events: ScanEvents,
    control: ScanControl,
) -> ScanResult:
    with open_instrument(instrument.config, base_dir=instrument.path.parent) as devices:
        if devices.stage.capabilities.needs_home:
            devices.stage.home()
        identity = read_identity(devices.stage, devices.camera, devices.config)
        check_identity(setup.profile, identity)
        return Scan(
            stage=devices.stage,
            camera=devices.camera,
            clock=devices.clock,
            config=setup.config,
            profile=setup.profile,
            plan=setup.plan,
            folder=setup.folder,
            fuser=fuser,
            strategy=setup.strategy,
            truth=devices.truth,
            label=setup.label,
            events=events,
            control=control,
        ).resume(progress)


def _engine_named(name: str) -> EngineName | None:
    for known in get_args(EngineName):
        if name == known:
            return cast("EngineName", known)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Helpers:
    """Who fuses: so many processes of this machine, or a Dask cluster."""

    workers: int = 1
    cluster: str | None = None


def reprocess_scans(
    scans: Sequence[Path],
    out: Path | None = None,
    *,
    model: str = "auto",
    engine: EngineName | None = None,
    helpers: Helpers | None = None,
    progress: Progress | None = None,
) -> list[ScanResult]:
    """Fuse and stitch the captures of scans anew, each into a folder of its own.

    Parameters
    ----------
    scans
        Folders of scans, finished or not; they are not changed.
    out
        Folder for the new ones, which keep the names of the scans; None puts each
        beside its scan as `reprocessed-NAME`.

    Raises
    ------
    BifocusError
        As `bifocus.edge.reprocess.reprocess_scan`; and `ConfigError` if a folder holds
        no scan, or there is no cluster.
    """
    helpers = helpers or Helpers()
    sources = [recall_setup(ScanFolder(scan)) for scan in scans]
    results = []
    with _helping(helpers) as (executor, n_workers):
        for source in sources:
            root = source.folder.root
            new = out / root.name if out else root.parent / f"reprocessed-{root.name}"
            wish = EngineWish.of(source.config.scan, engine)
            how = FuseAnew(
                model=model,
                wish=wish,
                executor=executor,
                most_waiting=max(2, 2 * n_workers),
            )
            target = replace(source, folder=ScanFolder(new))
            with closing(choose_fuser(model, wish)) as fuser:
                new.mkdir(parents=True, exist_ok=True)
                for name in ("instrument.yaml", "profile.yaml"):
                    copy_whole(root / name, new / name)
                results.append(reprocess_scan(source, target, how, fuser, progress))
    return results


@contextmanager
def _helping(helpers: Helpers) -> Iterator[tuple[Executor | None, int]]:
    """Yield an executor, None for this process alone, and how many work in it."""
    if helpers.cluster is not None:
        with open_cluster(helpers.cluster) as (executor, n_workers):
            yield executor, n_workers
    elif helpers.workers > 1:
        # Forked processes would inherit locks and engines of this one.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(helpers.workers, mp_context=context) as pool:
            yield pool, helpers.workers
    else:
        yield None, 1
