"""A focal stack in memory: where it is in focus, its patches, the planes of a pair.

The in-focus plane is the one with the largest Brenner gradient (arXiv 2003.06630,
section 4), and heights count from it. Nothing here opens a file.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bifocus.records import UInt8Image
from bifocus.sharpness import brenner, to_gray

PATCH_PX = 224  # arXiv 2003.06630, section 4
# A plane further than this from where it was wanted is not used: half a 0.5 um step.
MAX_MISS_UM = 0.2501


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedStack:
    """The pictures of a stack (or of one patch of it), sorted by height.

    `z_um` counts from the in-focus plane, which is `focus_index`.
    """

    z_um: npt.NDArray[np.float64]
    pictures: tuple[UInt8Image, ...]
    focus_index: int
    slide_id: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenPlanes:
    """Which planes make a pair, and the offset and half-spacing they really have."""

    minus: int
    plus: int
    offset_um: float
    half_spacing_um: float


def refocus(stack: LoadedStack) -> LoadedStack:
    """Return the stack with its heights counted from its sharpest plane by Brenner."""
    sharpness = [brenner(to_gray(picture)) for picture in stack.pictures]
    focus = int(np.argmax(sharpness))
    return replace(stack, z_um=stack.z_um - stack.z_um[focus], focus_index=focus)


def is_focus_inside(stack: LoadedStack) -> bool:
    """Return whether planes lie on both sides of the focus; else it is not known."""
    return 0 < stack.focus_index < len(stack.pictures) - 1


def cut_patches(stack: LoadedStack, patch_px: int = PATCH_PX) -> Iterator[LoadedStack]:
    """Yield the whole patches of a stack, row by row, each with its own focus plane.

    A picture smaller than a patch is yielded as it is.
    """
    height, width = stack.pictures[0].shape[:2]
    if height < patch_px or width < patch_px:
        yield stack
        return
    for top in range(0, height - patch_px + 1, patch_px):
        for left in range(0, width - patch_px + 1, patch_px):
            box = (slice(top, top + patch_px), slice(left, left + patch_px))
            cut = tuple(np.ascontiguousarray(plane[box]) for plane in stack.pictures)
            yield refocus(replace(stack, pictures=cut))


def choose_planes(
    z_um: npt.NDArray[np.float64],
    *,
    offset_um: float,
    half_spacing_um: float,
    max_miss_um: float = MAX_MISS_UM,
) -> ChosenPlanes | None:
    """Return the planes nearest to F-dD and F+dD, where the best focus is F + n at 0.

    The offset and half-spacing returned are those of the planes, not those asked for;
    an uneven stack simply gives other ones. None where a gap or the end of the stack
    leaves no plane within `max_miss_um`.

    Examples
    --------
    >>> z_um = np.array([-1.6, -1.1, -0.6, -0.1, 0.4, 0.9])
    >>> pair = choose_planes(z_um, offset_um=0.5, half_spacing_um=0.5)
    >>> round(pair.offset_um, 2), round(pair.half_spacing_um, 2)
    (0.6, 0.5)
    """
    wanted = (-offset_um - half_spacing_um, -offset_um + half_spacing_um)
    minus, plus = (int(np.abs(z_um - target).argmin()) for target in wanted)
    miss_um = max(abs(z_um[minus] - wanted[0]), abs(z_um[plus] - wanted[1]))
    if miss_um > max_miss_um or plus <= minus:
        return None
    return ChosenPlanes(
        minus=minus,
        plus=plus,
        offset_um=-float(z_um[minus] + z_um[plus]) / 2,
        half_spacing_um=float(z_um[plus] - z_um[minus]) / 2,
    )


def draw_offsets_um(
    rng: np.random.Generator, count: int, sd_um: float = 1.0
) -> npt.NDArray[np.float64]:
    """Return focal offsets n ~ N(0, sd): the paper's conversion to absolute distance.

    arXiv 2003.06630 turns a stack of known heights into tiles with an unknown focus by
    giving each tile a Gaussian n and taking the plane at -n as the predicted F.
    """
    return rng.normal(0.0, sd_um, count)
