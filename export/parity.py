"""The gate between an engine and its use: the same pictures in, the same pixels out.

An engine is any function from named uint8 pictures (N, H, W, 3) to one of that shape:
PyTorch, ONNX Runtime, OpenVINO and TensorRT all fit. Nothing here needs torch, so that
a device can repeat the check with the test pair that came with its engine.

Tolerances stand in `TOLERANCES`; what was measured against them is in docs/export.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from bifocus.engine_manifest import ParityReport, ParityTolerance, Precision
from bifocus.errors import EngineError

UInt8Batch = npt.NDArray[np.uint8]
Pictures = Mapping[str, UInt8Batch]
Engine = Callable[[Pictures], UInt8Batch]
# Counts the values that are NaN or infinite before they become bytes.
NanCounter = Callable[[Pictures], int]

# Against PyTorch in float32. fp32: sums in another order, on the edge between two
# levels. fp16: the goal of the project. int8: 8-bit activations inside; what it costs
# in quality is measured on the evaluation set.
TOLERANCES: Final[Mapping[Precision, ParityTolerance]] = {
    "fp32": ParityTolerance(max=1, differing=0.001, psnr_db=75),
    "fp16": ParityTolerance(max=1, differing=0.01, psnr_db=65),
    "int8": ParityTolerance(max=16, differing=0.25, psnr_db=52),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSet:
    """Pictures to give to an engine, and what the reference made of them.

    Attributes
    ----------
    name
        What the pictures are, for the report.
    pictures
        By input name, uint8 (N, H, W, 3).
    fused
        The reference's output, of that shape.
    """

    name: str
    pictures: Pictures
    fused: UInt8Batch

    def __post_init__(self) -> None:
        """Refuse arrays that no engine takes."""
        for key, batch in {**self.pictures, "fused": self.fused}.items():
            if batch.dtype != np.uint8 or batch.shape != self.fused.shape:
                msg = (
                    f"{self.name}: '{key}' is {batch.dtype} {batch.shape}, expected "
                    f"uint8 {self.fused.shape}"
                )
                raise EngineError(msg)


def measure_parity(
    engine: Engine,
    pictures: PictureSet,
    *,
    subject: str,
    against: str,
    device: str,
    tolerance: ParityTolerance,
    count_nan: NanCounter | None = None,
) -> ParityReport:
    """Run an engine and report how far its pixels are from the reference's.

    Parameters
    ----------
    engine
        What is judged.
    pictures
        What it gets, and the output it ought to give.
    subject, against, device
        For the report: the engine, the reference, and where the engine ran.
    tolerance
        How far it may be.
    count_nan
        Counts NaN and infinity before they became bytes; None where nobody can see.

    Raises
    ------
    EngineError
        If the engine gives something other than a picture of that shape.
    """
    fused = engine(pictures.pictures)
    if fused.dtype != np.uint8 or fused.shape != pictures.fused.shape:
        msg = (
            f"{subject} gave {fused.dtype} {fused.shape} for {pictures.name}, expected "
            f"uint8 {pictures.fused.shape}"
        )
        raise EngineError(msg)
    error = fused.astype(np.int16) - pictures.fused
    largest, differing = int(np.abs(error).max()), float((error != 0).mean())
    psnr_db = _psnr_db(error)
    bad = 0 if count_nan is None else count_nan(pictures.pictures)
    return ParityReport(
        subject=subject,
        against=against,
        pictures=pictures.name,
        device=device,
        psnr_db=psnr_db,
        differing=differing,
        max=largest,
        nan=bad,
        tolerance=tolerance,
        passed=(
            bad == 0
            and largest <= tolerance.max
            and differing <= tolerance.differing
            and psnr_db >= tolerance.psnr_db
        ),
    )


def require_parity(reports: Sequence[ParityReport], name: str) -> None:
    """Refuse an engine of which any report failed, or that has none.

    Raises
    ------
    EngineError
        It names the first failure, what was measured, and what is allowed.
    """
    if not reports:
        msg = f"{name}: no parity check was made, so that it cannot be verified"
        raise EngineError(msg)
    for report in reports:
        if report.passed:
            continue
        allowed = report.tolerance
        offset, hint = "", "and the weights"
        if report.offset_um is not None:
            offset = (
                f" The focal offset differs by {report.offset_um:.4f} um, allowed are "
                f"{allowed.offset_um or 0:g}."
            )
            hint = "and the tables of the optics"
        msg = (
            f"{name}: {report.subject} differs from {report.against} on the "
            f"{report.pictures} in {100 * report.differing:.3g} % of the values, by up "
            f"to {report.max:g} levels, {report.psnr_db:.1f} dB, {report.nan} NaN; "
            f"allowed are {100 * allowed.differing:g} %, {allowed.max:g} levels, "
            f"{allowed.psnr_db:g} dB, no NaN.{offset} Channel order, input order "
            f"{hint} are the first to look at"
        )
        raise EngineError(msg)


def worst_report(reports: Sequence[ParityReport]) -> ParityReport:
    """Return the report farthest from its reference."""
    return min(reports, key=lambda report: report.psnr_db)


def check_halo(
    engine: Engine, pictures: Pictures, *, halo_px: int, name: str, seed: int = 0
) -> None:
    """Refuse an engine whose tiles need more margin than the manifest says.

    Everything farther than the halo from one end of the pictures' longer side, then
    from the other, is replaced by noise; those ends must not change by a single level.

    Raises
    ------
    EngineError
        If they change, or the pictures are too small to tell.
    """
    sides = next(iter(pictures.values())).shape[1:3]
    axis, length = (2, sides[1]) if sides[1] > sides[0] else (1, sides[0])
    kept = min(16, length // 4)
    if length <= kept + halo_px:
        msg = f"{name}: pictures of {length} px are too small for a halo of {halo_px}"
        raise EngineError(msg)
    expected = engine(pictures)
    far = slice(kept + halo_px, None), slice(None, length - kept - halo_px)
    near = slice(None, kept), slice(length - kept, None)
    for changed, end in zip(far, near, strict=True):
        fused = engine(_with_noise(pictures, _along(axis, changed), seed))
        part = _along(axis, end)
        differing = int((fused[part] != expected[part]).sum())
        if differing:
            msg = (
                f"{name}: {differing} values change although only pixels beyond its "
                f"halo of {halo_px} px were changed; tiles would show seams. Export it "
                "again with the halo of its network"
            )
            raise EngineError(msg)


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (*(slice(None) for _ in range(axis)), part)


def _with_noise(pictures: Pictures, part: tuple[slice, ...], seed: int) -> Pictures:
    rng = np.random.default_rng(seed)
    changed = {}
    for key, batch in pictures.items():
        changed[key] = batch.copy()
        there = changed[key][part]
        there[...] = rng.integers(0, 256, there.shape, dtype=np.uint8)
    return changed


def _psnr_db(error: npt.NDArray[np.int16]) -> float:
    """Return the PSNR; of equal pictures, that of one value off by one level."""
    total = max(1.0, float(np.square(error, dtype=np.float64).sum()))
    return float(10 * np.log10(255**2 * error.size / total))
