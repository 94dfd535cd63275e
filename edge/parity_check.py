"""Repeats an engine's parity check on the pictures that came with it.

A server may serve anything under a name, and swap it at night: what it makes of the
test pair must be what the network made of it when it was exported.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bifocus.edge.network_fuser import NetworkEngine
from bifocus.edge.network_inputs import NetworkForm
from bifocus.edge.network_windows import WindowPlan, plan_windows
from bifocus.edge.whole_fuser import WholeEngine
from bifocus.engine_manifest import EngineManifest, ParityTolerance, read_checked
from bifocus.errors import EngineError
from bifocus.records import UInt8Image

FUSED, OFFSET = "fused", "offset_um"


def check_test_pair(engine: NetworkEngine, folder: Path) -> None:
    """Refuse an engine whose pixels are not those of its network.

    The pictures are cut into windows where the engine takes any size, so that a halo
    that is too small is seen as well.

    Parameters
    ----------
    engine
        What is judged; its form has a manifest.
    folder
        Where the manifest lies.

    Raises
    ------
    EngineError
        If there is no test pair, it is damaged, or the pixels are too far away.
    """
    manifest, tolerance = _what_to_check(engine.form)
    for name, arrays in _read(manifest, folder).items():
        pictures = {key: array[0] for key, array in arrays.items()}
        given = {key: pictures[key] for key in engine.form.inputs}
        found = _run(engine, given)
        _compare(engine, name, found, pictures[FUSED], tolerance)


def check_whole_pair(engine: WholeEngine, folder: Path) -> None:
    """Refuse a whole fusion whose pixels or focal offset are not those exported.

    Parameters and errors are those of `check_test_pair`. The engine is left with the
    tables of the test pair.
    """
    manifest, tolerance = _what_to_check(engine.form)
    for name, arrays in _read(manifest, folder).items():
        engine.set_tables({spec.name: arrays[spec.name] for spec in engine.form.tables})
        shots = {key: arrays[key][0] for key in engine.form.inputs}
        found, numbers = engine.fuse_pair(shots)
        _compare(engine, name, found, arrays[FUSED][0], tolerance)
        away_um = abs(float(numbers[OFFSET]) - float(arrays[OFFSET]))
        allowed_um = tolerance.offset_um or 0.0
        if not away_um <= allowed_um:  # a NaN is not
            msg = (
                f"{engine.form.network} on {engine.name}: on the {name} its focal "
                f"offset differs by {away_um:.4f} um, allowed are {allowed_um:g}: "
                "another version, or other tables of the optics"
            )
            raise EngineError(msg)


def _what_to_check(form: NetworkForm) -> tuple[EngineManifest, ParityTolerance]:
    manifest = form.manifest
    if manifest is None or manifest.test_pair is None or not manifest.parity:
        msg = (
            f"{form.network}: came without a test pair, so that nothing tells "
            "whether the server computes it; export it anew"
        )
        raise EngineError(msg)
    return manifest, manifest.parity[0].tolerance


def plan_check(form: NetworkForm, size_px: tuple[int, int]) -> WindowPlan:
    """Return the windows that the check cuts pictures of a size (rows, columns) into.

    There are several wherever the picture is longer than two halos and a stride.
    """
    least = 2 * form.halo_px + form.stride_px
    # The smallest legal window may be longer than the picture is high.
    most_px = max(least * min(least, *size_px), size_px[0] * size_px[1] // 2)
    return plan_windows(form, size_px, most_window_px=most_px)


def _run(engine: NetworkEngine, pictures: Mapping[str, UInt8Image]) -> UInt8Image:
    rows, columns = pictures[engine.form.inputs[0]].shape[:2]
    plan = plan_check(engine.form, (rows, columns))
    return plan.join(engine.stream(plan.cut(pictures)), (rows, columns))


def _compare(
    engine: NetworkEngine | WholeEngine,
    name: str,
    found: UInt8Image,
    expected: UInt8Image,
    tolerance: ParityTolerance,
) -> None:
    error = found.astype(np.int16) - expected
    largest, differing = int(np.abs(error).max()), float((error != 0).mean())
    power = float(np.square(error, dtype=np.float64).mean())
    psnr_db = 10 * np.log10(255**2 / power) if power else np.inf
    if (
        largest > tolerance.max
        or differing > tolerance.differing
        or psnr_db < tolerance.psnr_db
    ):
        msg = (
            f"{engine.form.network} on {engine.name}: on the {name} it differs from "
            f"the exported network by up to {largest} levels ({differing:.2%} of the "
            f"values, {psnr_db:.1f} dB), allowed are {tolerance.max:g} "
            f"({tolerance.differing:.2%}, {tolerance.psnr_db:g} dB): another network, "
            "another version, or another order of the pictures"
        )
        raise EngineError(msg)


def _read(manifest: EngineManifest, folder: Path) -> dict[str, dict[str, Any]]:
    """Return the sets of arrays, by their name; nothing is ever unpickled."""
    name = manifest.test_pair or ""
    content = read_checked(manifest, folder, name)
    try:
        sets: dict[str, dict[str, Any]] = {}
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            for key in file.files:
                _number, kind, picture = key.split(":")
                sets.setdefault(kind, {})[picture] = file[key]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        msg = f"{folder / name}: not a whole test pair ({error}); export it anew"
        raise EngineError(msg) from error
    return sets
