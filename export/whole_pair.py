"""The pairs that travel with a graph that holds the physics, and how it is judged.

Two raw shots with the tables of their optics, and what NumPy's physics and the network
made of them. Nothing here needs torch, so that a device can repeat the check.
"""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bifocus.engine_manifest import ParityReport, ParityTolerance, Precision
from bifocus.errors import EngineError
from bifocus.export.parity import (
    TOLERANCES,
    PictureSet,
    UInt8Batch,
    measure_parity,
)

Float32 = npt.NDArray[np.float32]
Feeds = Mapping[str, npt.NDArray[Any]]
# From shots and tables to the fused picture and the numbers beside it, by name.
WholeRun = Callable[[Feeds], tuple[UInt8Batch, Mapping[str, Float32]]]

# Against the loop's way, NumPy and then the network in float32. 60 dB: one value in
# fifteen may differ by one level; docs/decisions/0007 has what physics alone differs
# by. The network adds what its own precision costs; INT8 may cost what it may alone.
_FLOAT: Final = ParityTolerance(max=4, differing=0.1, psnr_db=60, offset_um=0.01)
WHOLE_TOLERANCES: Final[Mapping[Precision, ParityTolerance]] = {
    "fp32": _FLOAT,
    "fp16": _FLOAT,
    "int8": TOLERANCES["int8"].model_copy(update={"offset_um": 0.01}),
}
SHOTS: Final = ("minus", "plus")


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeSet:
    """A pair to give to an engine, and what the reference made of it.

    Attributes
    ----------
    name
        What the pair is, for the report.
    shots, tables
        Inputs by name: uint8 (1, rows, columns, 3), and float32.
    fused, offset_um
        The reference's picture, of the shots' shape, and its focal offset.
    """

    name: str
    shots: Mapping[str, UInt8Batch]
    tables: Mapping[str, Float32]
    fused: UInt8Batch
    offset_um: float

    @property
    def feeds(self) -> Feeds:
        """All inputs by name."""
        return {**self.shots, **self.tables}


def onnx_whole_run(content: bytes) -> WholeRun:
    """Return a whole fusion in ONNX Runtime on the CPU.

    Raises
    ------
    EngineError
        If ONNX Runtime refuses the graph; the function it returns, if it fails.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of half precision that it does not fold
    try:
        session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises its own, unexported kinds
        msg = f"ONNX Runtime cannot load the graph to compare with: {error}"
        raise EngineError(msg) from error
    names = [output.name for output in session.get_outputs()]

    def run(feeds: Feeds) -> tuple[UInt8Batch, dict[str, Float32]]:
        try:
            found = dict(zip(names, session.run(None, dict(feeds)), strict=True))
        except Exception as error:
            msg = f"ONNX Runtime {onnxruntime.__version__} failed: {error}"
            raise EngineError(msg) from error
        fused = found.pop("fused")
        return fused, found

    return run


def fused_again(given: WholeSet, reference: WholeRun) -> WholeSet:
    """Return the pair with what another reference makes of it."""
    fused, numbers = reference(given.feeds)
    return replace(given, fused=fused, offset_um=float(numbers["offset_um"]))


def measure_whole(
    run: WholeRun,
    given: WholeSet,
    *,
    subject: str,
    against: str,
    device: str,
    precision: Precision,
) -> ParityReport:
    """Run an engine and report how far picture and focal offset are away.

    `precision` is the network's, by which the tolerance is chosen.

    Raises
    ------
    EngineError
        If the engine gives something other than a picture of that shape.
    """
    fused, numbers = run(given.feeds)
    tolerance = WHOLE_TOLERANCES[precision]
    report = measure_parity(
        lambda _: fused,
        PictureSet(name=given.name, pictures=given.shots, fused=given.fused),
        subject=subject,
        against=against,
        device=device,
        tolerance=tolerance,
    )
    bad = sum(int((~np.isfinite(value)).sum()) for value in numbers.values())
    away_um = abs(float(numbers["offset_um"]) - given.offset_um) if bad == 0 else 0.0
    allowed_um = tolerance.offset_um or 0.0
    return report.model_copy(
        update={
            "nan": bad,
            "offset_um": away_um,
            "passed": report.passed and bad == 0 and away_um <= allowed_um,
        }
    )


def pack_whole_pair(sets: Sequence[WholeSet]) -> bytes:
    """Return the content of an NPZ file with all sets."""
    arrays: dict[str, Any] = {  # NumPy's types take the names for its own options
        f"{number}:{one.name}:{key}": value
        for number, one in enumerate(sets)
        for key, value in {
            **one.feeds,
            "fused": one.fused,
            "offset_um": np.float64(one.offset_um),
        }.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def unpack_whole_pair(content: bytes, name: str) -> list[WholeSet]:
    """Return the sets of a file that `pack_whole_pair` made; nothing is unpickled.

    Raises
    ------
    EngineError
        If the file is damaged, or is the test pair of a network alone.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        sets: dict[tuple[str, str], dict[str, Any]] = {}
        for key, value in arrays.items():
            number, kind, part = key.split(":")
            sets.setdefault((number, kind), {})[part] = value
        return [
            WholeSet(
                name=kind,
                fused=parts.pop("fused"),
                offset_um=float(parts.pop("offset_um")),
                shots={shot: parts.pop(shot) for shot in SHOTS},
                tables=parts,
            )
            for (_, kind), parts in sorted(sets.items())
        ]
    except (EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        msg = f"{name}: not a whole test pair ({error}); export the model again"
        raise EngineError(msg) from error
