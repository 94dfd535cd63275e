"""A network as an engine sees it: bytes in, bytes out, colour and scaling inside.

Pictures are uint8 (N, H, W, 3), as a camera and a file have them. Only the network's
core may compute in half precision; the residual and rounding stay in float32. A core in
half precision gets levels / 256, which it holds exactly where it rounds levels / 255:
that alone takes the share of values that differ from float32 from 1.0 % to 0.2 %. The
cast stands before any other operation, since TensorRT knows uint8 nowhere else.
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

_WHITE = 255
_HALF_CORE_WHITE = 256


class PixelNetwork(nn.Module):
    """A fusion network from uint8 pictures to one, of any size from 32 px.

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
        self.inputs = plain.inputs
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
        levels = tuple(
            picture.to(torch.float32).permute(0, 3, 1, 2) for picture in pictures
        )
        padded = [
            self._padded(plane * (1 / self.core_white)).to(self.core_type)
            for plane in levels
        ]
        core: Tensor = self.network.compute(padded).to(torch.float32)
        fused = core[..., :height, :width]
        base = self.network.base_image(levels)
        return fused if base is None else base * (1 / _WHITE) + fused

    def _padded(self, plane: Tensor) -> Tensor:
        height, width = plane.shape[-2:]
        # A graph of fixed size needs no operation where nothing is padded.
        if isinstance(height, int) and isinstance(width, int):
            if height % self.stride == 0 and width % self.stride == 0:
                return plane
        return pad_to_multiple(plane, self.stride)


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
