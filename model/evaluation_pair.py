"""What is judged and by what: a pair with its truth, where pairs come from, a method.

Everything that judges (`bifocus.model.evaluate`) sees only these three, so that files,
z-stacks and simulations are judged alike.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bifocus.errors import ImageFileError
from bifocus.focal_offset import PairOptics
from bifocus.records import UInt8Image
from bifocus.sharpness import is_plus_sharper
from bifocus.tone import ToneCurve

# network.md section 6: one of the shots then is the truth, but for this much.
IDENTITY_TOLERANCE_UM = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPair:
    """Two shots of one field with the in-focus truth.

    Attributes
    ----------
    minus, plus, truth
        uint8 RGB, (rows, columns, 3), on one pixel grid; the shots at F-dD and F+dD.
    optics
        What a method is told: NA, pixel, wavelengths, half-spacing.
    offset_um
        Best focus minus F; the shots are defocused by -dD-offset and dD-offset.
    half_spacing_um
        dD, as it was really taken.
    slide_id, source
        The slide (intervals are drawn by slide) and the data set or condition.
    tone_curve
        How the stored values relate to light.
    """

    minus: UInt8Image
    plus: UInt8Image
    truth: UInt8Image
    optics: PairOptics
    offset_um: float
    half_spacing_um: float
    slide_id: str
    source: str
    tone_curve: ToneCurve = "linear"

    def __post_init__(self) -> None:
        """Refuse pictures of different kind."""
        for image in (self.minus, self.plus, self.truth):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                msg = f"{self.source}: need 8-bit RGB, got {image.dtype} {image.shape}"
                raise ImageFileError(msg)
        if not self.minus.shape == self.plus.shape == self.truth.shape:
            msg = (
                f"{self.source}, slide {self.slide_id}: sizes differ: "
                f"{self.minus.shape}, {self.plus.shape}, {self.truth.shape}"
            )
            raise ImageFileError(msg)

    @property
    def sharper(self) -> UInt8Image:
        """The shot with the larger Brenner gradient (the paper's Y1)."""
        return self.plus if is_plus_sharper(self.minus, self.plus) else self.minus

    @property
    def nearer_defocus_um(self) -> float:
        """|defocus| of the nearer shot."""
        return abs(abs(self.offset_um) - self.half_spacing_um)

    @property
    def is_identity(self) -> bool:
        """Whether one shot already is the in-focus plane."""
        return self.nearer_defocus_um < IDENTITY_TOLERANCE_UM


class PairSource(Protocol):
    """Gives the same pairs in the same order each time it is iterated."""

    def __iter__(self) -> Iterator[EvaluationPair]:
        """Yield the pairs, one at a time, so that a large set needs no memory."""
        ...


Method = Callable[[EvaluationPair], UInt8Image]
OffsetMeter = Callable[[EvaluationPair], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairList:
    """Pairs that are in memory already."""

    pairs: Sequence[EvaluationPair]

    def __iter__(self) -> Iterator[EvaluationPair]:
        """Yield the pairs."""
        return iter(self.pairs)
