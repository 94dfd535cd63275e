"""The whole loop on the real clock, against the limit that the mechanics set.

Rendering what a virtual camera sees costs more than everything the loop does with it.
So a scan is rehearsed on the virtual clock, which costs it no time, and its frames are
kept in a file; then the same scan runs on the real clock, in a process of its own, with
the camera delivering those frames at the times at which it would. The time of the
rehearsal is the mechanical limit: moves, settling, exposures, transfers, nothing else.
"""

import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bifocus.bench_rows import FRAME_SHAPE, Row, peak_mb
from bifocus.calib.profile_identity import read_identity
from bifocus.camera_config import VirtualCameraConfig
from bifocus.config import Instrument, load_instrument
from bifocus.edge.engine_choice import EngineWish, choose_fuser
from bifocus.edge.fusers import Fuser
from bifocus.edge.plan import Region, ScanPlan, plan_scan
from bifocus.edge.scan import Scan, ScanResult
from bifocus.edge.scan_folder import ScanFolder
from bifocus.errors import ConfigError, EngineError
from bifocus.hal.devices import Camera
from bifocus.hal.open_instrument import OpenInstrument, open_instrument
from bifocus.hal.virtual_camera import VirtualCamera
from bifocus.hal.virtual_truth import VirtualTruth
from bifocus.records import InstrumentProfile, Measured
from bifocus.rehearsal import KeepingCamera, RehearsedCamera

_DATA = Path(__file__).parent / "data"
_TISSUE = "procedural:768x1024"
# Tiles of the scans: for the pace, for the memory, against a stack on every tile.
_REAL_TILES = (10, 10)
_LARGE_TILES = (4, 3)
_COMPARED_TILES = (4, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Preset:
    """A preset of `examples/` on procedural tissue, and a region of some tiles."""

    name: str
    config: Instrument
    region_um: Region

    def with_clock(self, clock: str) -> Instrument:
        return self.config.model_copy(update={"clock": clock})

    def plan(self, focus_um: float) -> ScanPlan:
        camera = self.config.camera
        return plan_scan(
            self.region_um,
            field_px=(camera.width_px, camera.height_px),
            pixel_um=self.config.optics.pixel_um,
            overlap=self.config.scan.overlap,
            focus_um=focus_um,
        )


def bench_loop() -> list[Row]:
    """Return the figures of the loop: pace on two instruments, memory, the last tile.

    Raises
    ------
    EngineError
        If the scan on the real clock failed, with what it printed.
    """
    return [*_pace_rows(), _memory_row(), _compared_row()]


def _pace_rows() -> list[Row]:
    rehearsed, found = _rehearse_and_perform("asi-ms2000", "fast", _REAL_TILES)
    tiles, elapsed_s = found["tiles"], found["elapsed_s"]
    common: dict[str, Any] = {
        "engine": found["engine"],
        "cpu_s": found["cpu_s"] / tiles,
        "peak_mb": found["peak_mb"],
    }
    starved_s = found["waits_s"]["fuse_s"] + found["waits_s"]["measure_s"]
    return [
        Row(
            name="asi-ms2000, fast: share of the mechanical limit",
            wall_s=found["pace_s"],
            unit="tile",
            figure=_pace_s(rehearsed) / found["pace_s"],
            **common,
        ),
        Row(
            name="asi-ms2000, fast: share of the time that capture waits for stages",
            wall_s=starved_s / tiles,
            unit="tile",
            figure=starved_s / elapsed_s,
            **common,
        ),
        Row(
            name="asi-ms2000, fast: s from the last tile to the whole slide",
            wall_s=found["wall_s"] - elapsed_s,
            unit=f"{tiles} tiles",
            figure=found["wall_s"] - elapsed_s,
            **common,
        ),
    ]


def _memory_row() -> Row:
    """Return the loop's memory at the size of tile for which its goal is stated."""
    size_px = (FRAME_SHAPE[1], FRAME_SHAPE[0])
    _, found = _rehearse_and_perform("asi-ms2000", "base", _LARGE_TILES, size_px)
    return Row(
        name=f"asi-ms2000 with {size_px[0]}x{size_px[1]} px, base: peak MB of the loop",
        engine=found["engine"],
        cpu_s=found["cpu_s"] / found["tiles"],
        wall_s=found["pace_s"],
        peak_mb=found["peak_mb"],
        unit="tile",
        figure=found["peak_mb"],
    )


def _rehearse_and_perform(
    name: str,
    network: str,
    tiles: tuple[int, int],
    size_px: tuple[int, int] | None = None,
) -> tuple[ScanResult, dict[str, Any]]:
    """Return the scan on the virtual clock, and what the one on the real clock told."""
    preset = _load(name, tiles, size_px)
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "frames"
        with closing(choose_fuser("physics", EngineWish())) as fuser:
            rehearsed = _rehearse(preset, Path(folder) / "rehearsal", fuser, frames)
        task = json.dumps([name, network, tiles, size_px, folder])
        done = subprocess.run(
            [sys.executable, "-m", "bifocus.bench_loop", task],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        msg = f"the scan on the real clock failed: {done.stderr.strip()[-2000:]}"
        raise EngineError(msg)
    return rehearsed, json.loads(done.stdout)


def _perform(task: str) -> dict[str, Any]:
    """Scan on the real clock with rehearsed frames; return what it took."""
    name, network, tiles, size_px, folder = json.loads(task)
    preset = _load(name, tiles, size_px)
    model = str(_DATA / "weights" / f"{network}.onnx")
    config = preset.with_clock("real")
    if not isinstance(config.camera, VirtualCameraConfig):
        msg = f"preset {name}: its camera is not virtual"
        raise ConfigError(msg)
    with (
        closing(choose_fuser(model, EngineWish())) as fuser,
        open_instrument(config, base_dir=_DATA) as devices,
    ):
        truth = _truth(devices)
        camera = RehearsedCamera(
            Path(folder) / "frames",
            config=config.camera,
            renderer=truth.renderer,
            sensor=truth.sensor,
            poses=devices.stage,
            clock=devices.clock,
            seed=config.seed,
        )
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        result = _scan(preset, devices, camera, Path(folder) / "scan", fuser)
        wall_s = time.perf_counter() - start_s
    return {
        "engine": result.engine,
        "tiles": len(result.lines),
        "elapsed_s": result.elapsed_s,
        "pace_s": _pace_s(result),
        "waits_s": result.waits_s,
        "wall_s": wall_s,
        "cpu_s": time.process_time() - start_cpu_s,
        "peak_mb": peak_mb(),
    }


def _compared_row() -> Row:
    """Two shots against a stack on every tile, on slow mechanics, in virtual time."""
    preset = _load("openflexure", _COMPARED_TILES)
    paces_s = {}
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        for strategy in ("two-shot", "stack"):
            with closing(choose_fuser("physics", EngineWish())) as fuser:
                out = Path(folder) / strategy
                result = _rehearse(preset, out, fuser, None, strategy)
            paces_s[strategy] = _pace_s(result)
    return Row(
        name="openflexure: times faster than a stack on every tile",
        engine="virtual clock",
        cpu_s=time.process_time() - start_cpu_s,
        wall_s=time.perf_counter() - start_s,
        peak_mb=peak_mb(),
        unit="both scans",
        figure=paces_s["stack"] / paces_s["two-shot"],
    )


def _load(
    name: str, tiles: tuple[int, int], size_px: tuple[int, int] | None = None
) -> _Preset:
    config = load_instrument(_DATA / f"{name}.yaml")
    slide, region_um = config.virtual_slide, config.scan.region_um
    if slide is None or region_um is None:
        msg = f"preset {name}: it needs a virtual slide and a region"
        raise ConfigError(msg)
    # Mirrored on and on, a little tissue fills any region; nothing is downloaded.
    changed = slide.model_copy(update={"tissue": _TISSUE, "beyond": "mirror"})
    camera = config.camera
    if size_px is not None:
        sides = {"width_px": size_px[0], "height_px": size_px[1]}
        camera = camera.model_copy(update=sides)
    config = config.model_copy(update={"virtual_slide": changed, "camera": camera})
    step_um = [
        side_px * config.optics.pixel_um * (1 - config.scan.overlap)
        for side_px in (config.camera.width_px, config.camera.height_px)
    ]
    width_um, height_um = (
        (count - 1) * step + step / (1 - config.scan.overlap)
        for count, step in zip(tiles, step_um, strict=True)
    )
    return _Preset(
        name=name, config=config, region_um=(*region_um[:2], width_um, height_um)
    )


def _rehearse(
    preset: _Preset,
    out: Path,
    fuser: Fuser,
    frames: Path | None,
    strategy: str = "two-shot",
) -> ScanResult:
    config = preset.with_clock("virtual")
    with open_instrument(config, base_dir=_DATA) as devices:
        camera = devices.camera
        if frames is not None and isinstance(camera, VirtualCamera):
            camera = KeepingCamera(camera, frames)
        return _scan(preset, devices, camera, out, fuser, strategy)


def _scan(
    preset: _Preset,
    devices: OpenInstrument,
    camera: Camera,
    out: Path,
    fuser: Fuser,
    strategy: str = "two-shot",
) -> ScanResult:
    profile = _profile(preset, devices)
    return Scan(
        stage=devices.stage,
        camera=camera,
        clock=devices.clock,
        config=devices.config,
        profile=profile,
        plan=preset.plan(profile.focus_um.value),
        folder=ScanFolder(out),
        fuser=fuser,
        strategy=strategy,
    ).run()


def _profile(preset: _Preset, devices: OpenInstrument) -> InstrumentProfile:
    """Return what calibration would find at the region's first corner."""
    x_um, y_um = preset.region_um[:2]
    height_um = _truth(devices).height_um(x_um, y_um)
    spacing_um = preset.config.scan.half_spacing_um
    return InstrumentProfile(
        identity=read_identity(devices.stage, devices.camera, devices.config),
        created_utc="2026-01-01T00:00:00+00:00",
        software_version="benchmark",
        raw_sha256="",
        focus_um=Measured(value=height_um, standard_uncertainty=0.1, method="truth"),
        focus_x_um=x_um,
        focus_y_um=y_um,
        half_spacing_um=Measured(
            value=spacing_um, standard_uncertainty=0.02, method="the instrument file"
        ),
        flat_field=None,
        simulated=True,
    )


def _truth(devices: OpenInstrument) -> VirtualTruth:
    if devices.truth is None:
        msg = "the loop is measured on a virtual instrument"
        raise ConfigError(msg)
    return devices.truth


def _pace_s(result: ScanResult) -> float:
    scanning_s = result.elapsed_s - result.waits_s["approach_s"]
    return scanning_s / len(result.lines)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_perform(sys.argv[1])))
