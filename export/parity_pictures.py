"""The pictures that travel with an engine, so that any device can repeat the check.

One pair of simulated tissue, and one of coloured noise that a pair of shots might have;
with both, what PyTorch made of them in float32. All is drawn from seeds: no picture of
a patient, none that needs a licence.
"""

import io
import zipfile
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from bifocus.errors import EngineError
from bifocus.export.parity import Engine, Pictures, PictureSet, UInt8Batch
from bifocus.focal_offset import PairOptics
from bifocus.records import UInt8Image

# No multiples of any stride: padding is tried as well. The noise is a strip, longer
# than two halos of our networks, so that it can be cut into windows: it tells a halo
# that is too small before tissue does. Small, since the file lies beside each graph.
TISSUE_SIZE_PX = (49, 69)
NOISE_SIZE_PX = (33, 206)
_FROM_PX = 90  # nuclei, fibres and bare glass
TISSUE, NOISE = "test pair", "random pictures"
_SEED = 4
_NOISE_SD = 4.0  # grey levels between two shots of one field


def make_test_pair(
    reference: Engine, inputs: tuple[str, ...], size_px: tuple[int, int] | None = None
) -> list[PictureSet]:
    """Return the pictures, and what `reference` makes of them.

    Parameters
    ----------
    reference
        PyTorch in float32.
    inputs
        Names of the pictures that the network takes.
    size_px
        Rows and columns; None for `TISSUE_SIZE_PX` and `NOISE_SIZE_PX`.
    """
    # It needs torch; reading a test pair on a device must not.
    from bifocus.export.calibration import simulated_pairs

    (tissue,) = simulated_pairs(inputs, count=1, seed=_SEED)
    if size_px is None:
        tissue = {name: batch[:, _FROM_PX:] for name, batch in tissue.items()}
    return [
        PictureSet(name=name, pictures=pictures, fused=reference(pictures))
        for name, pictures in (
            (TISSUE, fit_pictures(tissue, size_px or TISSUE_SIZE_PX)),
            (NOISE, coloured_noise(inputs, size_px or NOISE_SIZE_PX, _SEED)),
        )
    ]


def simulated_shots() -> tuple[dict[str, UInt8Image], PairOptics]:
    """Return the shots of the test pair, "minus" and "plus", and their optics."""
    from bifocus.export.calibration import simulated_pair

    pair = simulated_pair(0, seed=_SEED)
    return {"minus": pair.minus, "plus": pair.plus}, pair.optics


def coloured_noise(
    inputs: tuple[str, ...], size_px: tuple[int, int], seed: int
) -> Pictures:
    """Return pictures without any tissue, alike as two shots of one field are.

    The remainder of a picture is like nothing: it is any bytes.
    """
    rng = np.random.default_rng(seed)
    shape = (1, *size_px, 3)
    field = gaussian_filter(rng.normal(size=shape), (0, 2, 2, 0))
    common = 150 + 40 * field / field.std()
    pictures: dict[str, UInt8Batch] = {}
    for name in inputs:
        if name == "remainder":
            pictures[name] = rng.integers(0, 256, shape, dtype=np.uint8)
        else:
            picture = np.clip(common + rng.normal(0, _NOISE_SD, shape), 0, 255)
            pictures[name] = picture.astype(np.uint8)
    return pictures


def pack_test_pair(sets: list[PictureSet]) -> bytes:
    """Return the content of an NPZ file with the pictures of all sets."""
    arrays: dict[str, Any] = {  # NumPy's types take the names for its own options
        f"{number}:{pictures.name}:{key}": batch
        for number, pictures in enumerate(sets)
        for key, batch in {**pictures.pictures, "fused": pictures.fused}.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def unpack_test_pair(content: bytes, name: str) -> list[PictureSet]:
    """Return the sets of a file that `pack_test_pair` made; nothing is ever unpickled.

    Raises
    ------
    EngineError
        If the file is damaged.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        sets: dict[tuple[str, str], dict[str, UInt8Batch]] = {}
        for key, batch in arrays.items():
            number, kind, picture = key.split(":")
            sets.setdefault((number, kind), {})[picture] = batch
        return [
            PictureSet(name=kind, fused=batches.pop("fused"), pictures=batches)
            for (_, kind), batches in sorted(sets.items())
        ]
    except (EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        msg = f"{name}: not a whole test pair ({error}); export the model again"
        raise EngineError(msg) from error


def fit_pictures(pictures: Pictures, size_px: tuple[int, int]) -> Pictures:
    """Return the pictures cut, or mirrored at their edges, to a size."""
    rows, columns = size_px
    fitted = {}
    for key, batch in pictures.items():
        grow = (max(0, rows - batch.shape[1]), max(0, columns - batch.shape[2]))
        border = ((0, 0), (0, grow[0]), (0, grow[1]), (0, 0))
        mirrored = np.pad(batch, border, mode="symmetric")
        fitted[key] = np.ascontiguousarray(mirrored[:, :rows, :columns])
    return fitted
