"""A network as an engine sees it: bytes in, bytes out, colour and scaling inside.

Pictures are uint8 (N, H, W, 3), as a camera and a file have them. The physics image
comes in two of them, levels and what rounding took (`bifocus.tone.encode_remainder`):
they are one again before anything else is done (docs/decisions/0017). The cast stands
before that, since TensorRT knows uint8 nowhere else.

Only the network's core may compute in half precision; the residual and rounding stay in
float32. A core in half precision gets levels / 256, which it holds exactly where it
rounds levels / 255. Levels with a fraction it does not hold: bright ones would be cut
to 1/8, by which 2.4 % of the values differ from float32. So it gets the fraction as one
more picture, by the same weights of its first convolution, which adds the two up wider
than it reads them: the share is that of whole levels, 0.1 to 0.9 %.
"""

import copy

import torch
from torch import Tensor, nn

from bifocus.errors import ConfigError
from bifocus.model.burst_unet import BurstUNet
from bifocus.model.fusion_network import MIN_SIDE_PX, FusionNetwork, pad_to_multiple
from bifocus.model.hybrid import HybridNet
from bifocus.model.paper_blocks import fold_batch_norm
from bifocus.model.tsva import Tsva
from bifocus.model.unet import UNet
from bifocus.tone import NO_REMAINDER, REMAINDER_STEPS

PHYSICS, REMAINDER = "physics", "remainder"
_WHITE = 255
_HALF_CORE_WHITE = 256


def picture_inputs(network: FusionNetwork) -> tuple[str, ...]:
    """Return the pictures that a network takes as an engine: physics in two, at last.

    Raises
    ------
    ConfigError
        If physics is not the last input of the network.
    """
    if PHYSICS not in network.inputs:
        return network.inputs
    if network.inputs[-1] != PHYSICS:
        raise ConfigError(f"physics must be the last input of {network.inputs}")
    return (*network.inputs, REMAINDER)


class PixelNetwork(nn.Module):
    """A fusion network from uint8 pictures, `inputs`, to one, of any size from 32 px.

    Parameters
    ----------
    network
        It is copied, freed of batch normalisation and put into evaluation mode.
    is_half
        Whether its core computes in float16.
    """

    def __init__(self, network: FusionNetwork, *, is_half: bool = False) -> None:
        super().__init__()
        plain = plain_copy(network)
        self.core_white = _HALF_CORE_WHITE if is_half else _WHITE
        # In float32 the weights stay those of the checkpoint, which fit half the bytes.
        with torch.no_grad():
            first_convolution(plain).weight.mul_(self.core_white / _WHITE)
        self.inputs = picture_inputs(plain)
        self.has_part_apart = is_half and REMAINDER in self.inputs
        if self.has_part_apart:
            repeat_last_picture(first_convolution(plain))
        self.stride = plain.stride
        self.core_type = torch.float16 if is_half else torch.float32
        self.network = plain.to(self.core_type)

    def forward(self, *pictures: Tensor) -> Tensor:
        """Return the fused picture, uint8 (N, H, W, 3), of pictures of that shape."""
        levels = (_WHITE * self.compute_unit(*pictures) + 0.5).clamp(0, _WHITE)
        return levels.permute(0, 2, 3, 1).to(torch.uint8)

    def compute_unit(self, *pictures: Tensor) -> Tensor:
        """Return the fused picture before it becomes bytes: float32 (N, 3, H, W)."""
        height, width = _checked_size(pictures, self.inputs)
        planes = [picture.to(torch.float32).permute(0, 3, 1, 2) for picture in pictures]
        levels = _joined(planes) if REMAINDER in self.inputs else planes
        if self.has_part_apart:
            seen = [*planes[:-1], _part(planes[-1])]
        else:
            seen = levels
        padded = [
            self._padded(plane * (1 / self.core_white)).to(self.core_type)
            for plane in seen
        ]
        core: Tensor = self.network.compute(padded).to(torch.float32)
        fused = core[..., :height, :width]
        base = self.network.base_image(tuple(levels))
        return fused if base is None else base * (1 / _WHITE) + fused

    def _padded(self, plane: Tensor) -> Tensor:
        height, width = plane.shape[-2:]
        # A graph of fixed size needs no operation where nothing is padded.
        if isinstance(height, int) and isinstance(width, int):
            if height % self.stride == 0 and width % self.stride == 0:
                return plane
        return pad_to_multiple(plane, self.stride)


def _part(remainder: Tensor) -> Tensor:
    """Return the fraction of a level that a remainder's bytes stand for."""
    return (remainder - NO_REMAINDER) * (1 / REMAINDER_STEPS)


def _joined(planes: list[Tensor]) -> list[Tensor]:
    """Return the network's own pictures from those that end in physics, remainder."""
    *shots, physics, remainder = planes
    return [*shots, physics + _part(remainder)]


def plain_copy(network: FusionNetwork) -> FusionNetwork:
    """Return an equal float32 network on the CPU that converts well to a graph.

    Batch normalisation is folded away, and the stem that shuffles pixels into channels
    becomes one strided convolution: a shuffle costs a transposition of six axes, and
    has been exported with its channels in the wrong order (onnxscript issue 2891).
    """
    plain = copy.deepcopy(network).to("cpu", torch.float32).eval()
    if getattr(plain.config, "batch_norm", False):
        plain = fold_batch_norm(plain)
    if isinstance(plain, HybridNet):
        plain.encoder.stem = merge_unshuffle(
            plain.encoder.unshuffle.downscale_factor, plain.encoder.stem
        )
        plain.encoder.unshuffle = nn.Identity()  # type: ignore[assignment]
    return plain


def merge_unshuffle(factor: int, conv: nn.Conv2d) -> nn.Conv2d:
    """Return one convolution equal to `PixelUnshuffle(factor)` and then `conv`.

    A shuffled channel c factor^2 + dy factor + dx at tap (ky, kx) is channel c at tap
    (ky factor + dy, kx factor + dx) of a kernel `factor` times as large.
    """
    n_out, n_shuffled, side, _ = conv.weight.shape
    n_in = n_shuffled // factor**2
    taps = conv.weight.detach().reshape(n_out, n_in, factor, factor, side, side)
    merged = nn.Conv2d(
        n_in, n_out, side * factor, stride=factor, padding=factor * (side // 2)
    )
    with torch.no_grad():
        large = taps.permute(0, 1, 4, 2, 5, 3)
        merged.weight.copy_(large.reshape(merged.weight.shape))
        if conv.bias is not None and merged.bias is not None:
            merged.bias.copy_(conv.bias)
    return merged


def repeat_last_picture(conv: nn.Conv2d) -> None:
    """Let a convolution take its last picture as two, of which it sees the sum."""
    with torch.no_grad():
        wide = torch.cat([conv.weight, conv.weight[:, -3:]], dim=1)
    conv.weight = nn.Parameter(wide)
    conv.in_channels += 3


def first_convolution(network: FusionNetwork) -> nn.Conv2d:
    """Return the one convolution that sees the pictures.

    Raises
    ------
    ConfigError
        If the network is of a family that export does not know.
    """
    if isinstance(network, HybridNet):
        return network.encoder.stem
    if isinstance(network, Tsva | UNet):
        unit = network.contracting.levels[0][0]  # type: ignore[index]
    elif isinstance(network, BurstUNet):
        unit = network.contracting[0][0]  # type: ignore[index]
    else:
        raise ConfigError(
            f"networks of family {type(network).__name__} cannot be exported; known: "
            "HybridNet, Tsva, UNet, BurstUNet"
        )
    conv: nn.Conv2d = unit.conv
    return conv


def _checked_size(
    pictures: tuple[Tensor, ...], names: tuple[str, ...]
) -> tuple[int, int]:
    if len(pictures) != len(names):
        raise ConfigError(
            f"the network takes {len(names)} pictures ({', '.join(names)}), "
            f"not {len(pictures)}"
        )
    height, width = pictures[0].shape[1:3]
    # The exporter's symbolic sizes carry their own lower bound.
    if isinstance(height, int) and min(height, width) < MIN_SIDE_PX:
        raise ConfigError(
            f"a picture of {width}x{height} px is too small: both sides must be at "
            f"least {MIN_SIDE_PX} px"
        )
    return height, width
