"""Gains of three colours fused together: `bifocus.joint_colours` in tensor steps.

Gains, not spectra, are what is mixed here: a colour is a sum over both shots of all
three, and no spectrum has to be kept but those of the shots.
"""

import torch
from torch import Tensor, nn

from bifocus.block_fusion import MAX_GAIN
from bifocus.export.offset_graph import FIRST_RING
from bifocus.export.wiener_graph import Observed, smooth
from bifocus.joint_colours import COLOUR_PAIRS, LARGEST_CORRELATION


class JointGraph(nn.Module):
    """What to make each colour of, from what the shots tell of all three."""

    own: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("own", torch.eye(3)[:, :, None, None])

    def forward(self, seen: Observed, cross: Tensor, trust: Tensor) -> Tensor:
        """Return the gains (shots, to, from, blocks, bins): to a colour, from each.

        Parameters
        ----------
        seen
            What the shots tell.
        cross
            Ring means of Re(b conj b') of `COLOUR_PAIRS`, (3, blocks, bins), with b
            the spectra of both shots times their weights, summed.
        trust
            The share of the Wiener image, (1,).
        """
        mixing = self.mixing(cross, seen.precision, seen.signal, seen.focus)
        gains = mixing * seen.weight[:, None]
        strength = (gains * gains).sum(dim=(0, 2), keepdim=True).sqrt()
        gains = gains * (MAX_GAIN / strength.clamp(min=1e-9)).clamp(max=1)
        # Rings 0 and 1 hold the window's own leakage: they pass, half from each shot.
        inner = (0.5 * self.own).expand_as(gains[..., :FIRST_RING])
        gains = torch.cat([inner, gains[..., FIRST_RING:]], dim=-1)
        picked = seen.pick[:, None, None, :, None] * self.own
        return trust * gains + (1 - trust) * picked

    def mixing(
        self, cross: Tensor, precision: Tensor, signal: Tensor, focus: Tensor
    ) -> Tensor:
        """Return M = h0 S (1 + D S)^-1, (to, from, blocks, bins).

        Parameters
        ----------
        cross
            See `forward`.
        precision, signal, focus
            d, the object's power and h(0) of each colour, (colours, blocks, bins).
        """
        found = []
        for number, (one, two) in enumerate(COLOUR_PAIRS):
            told = (precision[one] * precision[two]).clamp(min=1e-20)
            covariance = smooth(cross[number] / told)
            found.append(covariance / (signal[one] * signal[two]).sqrt())
        strength = (precision * signal).sqrt()
        root = precision.clamp(min=1e-12).sqrt()
        told = self.own - _inverse(_limited(found), strength)
        return focus[:, None] * told / (root[:, None] * root)


def _limited(found: list[Tensor]) -> list[Tensor]:
    """Return correlations that an object can have; the last fits the first two."""
    limit = LARGEST_CORRELATION
    first, second = (value.clamp(-limit, limit) for value in found[:2])
    middle = first * second
    room = limit * ((1 - first * first) * (1 - second * second)).sqrt()
    third = torch.minimum(torch.maximum(found[2], middle - room), middle + room)
    return [first, second, third]


def _inverse(correlation: list[Tensor], strength: Tensor) -> Tensor:
    """Return (1 + B)^-1, (3, 3, ...), with B the correlations times both strengths."""
    b01, b02, b12 = (
        correlation[number] * strength[one] * strength[two]
        for number, (one, two) in enumerate(COLOUR_PAIRS)
    )
    a0, a1, a2 = (1 + strength * strength).unbind()
    i00, i11, i22 = a1 * a2 - b12 * b12, a0 * a2 - b02 * b02, a0 * a1 - b01 * b01
    i01, i02, i12 = b02 * b12 - b01 * a2, b01 * b12 - b02 * a1, b01 * b02 - b12 * a0
    rows = [(i00, i01, i02), (i01, i11, i12), (i02, i12, i22)]
    adjugate = torch.stack([torch.stack(row) for row in rows])
    return adjugate / (a0 * i00 + b01 * i01 + b02 * i02)
