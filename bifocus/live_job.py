"""Serve the page of a scan that lies in a folder: finished, or made by another program.

Only looks on: nothing in the folder is changed, and there is nothing to steer.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bifocus.calib.profile_file import read_profile
from bifocus.config import Instrument
from bifocus.edge.live_journal import JournalledTile, read_properties, read_tiles
from bifocus.edge.live_page import LiveAddress, serve_live
from bifocus.edge.live_server import LiveServer
from bifocus.edge.plan import ScanPlan, plan_scan
from bifocus.edge.scan_folder import ScanFolder
from bifocus.errors import SlideFileError
from bifocus.jobs import InstrumentFile
from bifocus.records import StagePosition, TileVisit


@contextmanager
def serve_folder(scan: Path, address: LiveAddress) -> Iterator[LiveServer]:
    """Serve a scan's folder while the block runs; follows it if it still grows.

    Raises
    ------
    ConfigError
        If the port is taken, or the folder's instrument file is unusable.
    SlideFileError
        If the folder holds no scan.
    """
    folder = ScanFolder(scan)
    if not folder.journal.exists():
        msg = f"{scan}: holds no scan: there is no {folder.journal.name}"
        raise SlideFileError(msg)
    config = InstrumentFile.load(folder.instrument).config
    properties = read_properties(folder.journal)
    with serve_live(
        folder,
        _recall_plan(folder, config, properties),
        config=config,
        profile=read_profile(folder.profile),
        strategy=properties.get("strategy", ""),
        address=address,
    ) as server:
        yield server


def _recall_plan(
    folder: ScanFolder, config: Instrument, properties: dict[str, str]
) -> ScanPlan:
    """Return the plan from the region in the journal, or from the tiles themselves."""
    field_px = config.camera.width_px, config.camera.height_px
    if "region_um" in properties:
        x_um, y_um, width_um, height_um = json.loads(properties["region_um"])
        return plan_scan(
            (x_um, y_um, width_um, height_um),
            field_px=field_px,
            pixel_um=config.optics.pixel_um,
            overlap=config.scan.overlap,
            focus_um=0.0,
        )
    tiles = read_tiles(folder.journal)
    if not tiles:
        msg = f"{folder.root}: no tile is captured yet; try again in a moment"
        raise SlideFileError(msg)
    return _plan_from_tiles(tiles, config)


def _plan_from_tiles(tiles: list[JournalledTile], config: Instrument) -> ScanPlan:
    """Return the plan that the tiles of a finished scan follow."""
    field_px = config.camera.width_px, config.camera.height_px
    pixel_um = config.optics.pixel_um
    entries = [tile.entry for tile in tiles]
    nominal = [side * pixel_um * (1 - config.scan.overlap) for side in field_px]
    columns = _step({entry.column: entry.x_um for entry in entries}, nominal[0])
    rows = _step({entry.row: entry.y_um for entry in entries}, nominal[1])
    return ScanPlan(
        visits=tuple(
            TileVisit(
                row=entry.row,
                column=entry.column,
                target=StagePosition(
                    x_um=entry.x_um, y_um=entry.y_um, z_um=entry.focus_um
                ),
            )
            for entry in entries
        ),
        rows=rows[0],
        columns=columns[0],
        step_um=(columns[1], rows[1]),
        field_px=field_px,
        pixel_um=pixel_um,
    )


def _step(places_um: dict[int, float], nominal_um: float) -> tuple[int, float]:
    """Return the count along one axis, and the distance of neighbours."""
    first, last = min(places_um), max(places_um)
    if first == last:
        return last + 1, nominal_um
    return last + 1, (places_um[last] - places_um[first]) / (last - first)
