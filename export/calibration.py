"""Pictures to calibrate INT8 with: like those of training, never those that judge.

Three sources, in this order: pairs that the user names, tissue of the training slides
where it is present, and simulated pairs of procedural tissue, which need nothing. To
the latter two come pictures of noise: what is no tissue lies outside their ranges, and
would be cut off.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np

from bifocus.errors import ConfigError
from bifocus.export.parity import Pictures
from bifocus.export.parity_pictures import coloured_noise
from bifocus.hal.procedural_tissue import make_procedural_tissue
from bifocus.model.classical import fuse_together
from bifocus.model.evaluation_pair import EvaluationPair
from bifocus.model.evaluation_set import CONDITIONS, SimulatedPairs, Texture
from bifocus.model.patch_store import StoreRequest, render_patch
from bifocus.model.texture_files import find_data_dir, list_textures
from bifocus.records import UInt8Image
from bifocus.sharpness import is_plus_sharper

N_PICTURES = 24
_N_NOISE = 4
_NOISE_SEED = 100  # not that of the pictures that judge
_PATCH_PX = 160
_TEXTURE_PX = 400
# Patches of one instrument share the tables of the physics fusion.
_PER_INSTRUMENT = 4
_OFFSETS_UM: Final = (0.4, -0.9, 0.0, 1.3, -0.2, 2.0, -1.6, 0.75)


def default_pictures(inputs: tuple[str, ...]) -> tuple[list[Pictures], str]:
    """Return the best pictures that are at hand, and what they are."""
    pictures, origin = _tissue(inputs)
    size_px = (_PATCH_PX, _PATCH_PX)
    noise = [coloured_noise(inputs, size_px, _NOISE_SEED + n) for n in range(_N_NOISE)]
    return [*pictures, *noise], f"{origin}, and {_N_NOISE} of noise"


def pictures_from(
    pairs: Iterable[dict[str, UInt8Image]], inputs: tuple[str, ...]
) -> list[Pictures]:
    """Return patches cut from the middle of whole pictures, named as the inputs.

    Parameters
    ----------
    pairs
        One dictionary a pair with all of them, uint8 (H, W, 3).
    inputs
        The ones that the network takes.
    """
    pictures = []
    for pair in pairs:
        cut = {name: _middle(pair[name]) for name in inputs}
        pictures.append(_batched(cut, inputs))
    return pictures


def simulated_pairs(
    inputs: tuple[str, ...], *, count: int, seed: int
) -> list[Pictures]:
    """Return pairs of procedural tissue under the two lights of the evaluation.

    The tissue is of another kind than the evaluation's, and the seeds are others.
    """
    pictures: list[Pictures] = []
    for number in range(count):
        pictures.append(pictures_of(simulated_pair(number, seed=seed), inputs))
    return pictures


def pictures_of(pair: EvaluationPair, inputs: tuple[str, ...]) -> Pictures:
    """Return the pictures that an engine is given of a pair whose shots lie still."""
    is_plus = is_plus_sharper(pair.minus, pair.plus)
    shots = {"minus": pair.minus, "plus": pair.plus}
    shots |= _by_sharpness(shots, is_plus)
    if "physics" in inputs:
        physics = fuse_together(pair)
        shots |= {"physics": physics.pixels, "remainder": physics.remainder()}
    return _batched(shots, inputs)


def simulated_pair(number: int, *, seed: int) -> EvaluationPair:
    """Return one pair of `simulated_pairs` with its optics; `number` counts from 0."""
    light = make_procedural_tissue(_TEXTURE_PX, _TEXTURE_PX, 100 * seed + number)
    texture = Texture(
        pixels=np.rint(255 * light).astype(np.uint8), slide_id="procedural"
    )
    conditions = sorted(CONDITIONS)
    condition = conditions[number % len(conditions)]
    (pair,) = SimulatedPairs(
        name=condition,
        optics=CONDITIONS[condition],
        textures=[texture],
        offsets_um=(_OFFSETS_UM[number % len(_OFFSETS_UM)],),
        seed=1000 * seed + number,
    )
    return pair


def _tissue(inputs: tuple[str, ...]) -> tuple[list[Pictures], str]:
    try:
        files = list_textures(find_data_dir(), "train")
    except ConfigError:
        pictures = simulated_pairs(inputs, count=N_PICTURES, seed=1)
        return pictures, f"{N_PICTURES} simulated pairs of procedural tissue"
    request = StoreRequest(
        n=N_PICTURES, patch_px=_PATCH_PX, per_instrument=_PER_INSTRUMENT
    )
    pictures = []
    for number in range(N_PICTURES):
        patch = render_patch(request, number, files)
        shots = {
            "minus": patch.minus,
            "plus": patch.plus,
            "physics": patch.physics,
            "remainder": patch.remainder,
        }
        shots |= _by_sharpness(shots, patch.is_plus_sharper)
        pictures.append(_batched(shots, inputs))
    return pictures, f"{N_PICTURES} pairs rendered from the training slides"


def _by_sharpness(
    shots: dict[str, UInt8Image], is_plus_sharper: bool
) -> dict[str, UInt8Image]:
    first, second = ("plus", "minus") if is_plus_sharper else ("minus", "plus")
    return {"sharper": shots[first], "other": shots[second]}


def _middle(picture: UInt8Image) -> UInt8Image:
    rows, columns = (min(_PATCH_PX * 2, length) for length in picture.shape[:2])
    top = (picture.shape[0] - rows) // 2
    left = (picture.shape[1] - columns) // 2
    return picture[top : top + rows, left : left + columns]


def _batched(shots: dict[str, UInt8Image], inputs: tuple[str, ...]) -> Pictures:
    return {name: np.ascontiguousarray(shots[name][None]) for name in inputs}
