"""The exact receptive radius of a network, and the halo a tile needs for it.

The network runs once on a small image while every operation is watched; each tensor
carries how far its elements see into the input. An operation that is not listed here
is refused: one that sees the whole picture (a global mean, attention) cannot slip in.
A tile cut with `halo_px` around it, at multiples of the stride, gives the same pixels
as the whole picture.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bifocus.errors import EngineError
from bifocus.model.fusion_network import MIN_SIDE_PX, FusionNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What element i of a map sees: input pixels step i - before to step i + after.

    Attributes
    ----------
    step_px
        Input pixels per element, in rows as in columns.
    before_px, after_px
        How far an element sees towards and away from pixel 0, at the worst alignment
        of i to the coarser grids.
    """

    step_px: int
    before_px: int
    after_px: int


def receptive_reach(network: FusionNetwork) -> Reach:
    """Return how far an output pixel sees, in input pixels before and after it."""
    probe = copy.deepcopy(network).eval().to("cpu", torch.float32)
    side = max(MIN_SIDE_PX, 2 * network.stride)
    images = [torch.zeros(1, 3, side, side) for _ in network.inputs]
    mode = _ReachMode(images)
    with torch.no_grad(), mode:
        fused = probe(*images)
    return mode.reach_of(fused)


def receptive_radius(network: FusionNetwork) -> int:
    """Return the largest distance in px at which an input pixel changes an output."""
    reach = receptive_reach(network)
    return max(reach.before_px, reach.after_px)


def halo_px(network: FusionNetwork) -> int:
    """Return the receptive radius rounded up to the network's stride, in px."""
    return -(-receptive_radius(network) // network.stride) * network.stride


def _window(reach: Reach, kernel: int, stride: int, padding: int) -> Reach:
    return Reach(
        step_px=reach.step_px * stride,
        before_px=reach.before_px + padding * reach.step_px,
        after_px=reach.after_px + (kernel - 1 - padding) * reach.step_px,
    )


def _conv2d(
    reach: Reach,
    _image: Tensor,
    weight: Tensor,
    _bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Reach:
    if _side(dilation) != 1 or groups < 1:
        raise EngineError("the receptive radius of a dilated convolution is not known")
    return _window(reach, _side(weight.shape[2:]), _side(stride), _side(padding))


def _max_pool2d(reach: Reach, _image: Tensor, kernel_size: Any, **_: Any) -> Reach:
    return _window(reach, _side(kernel_size), _side(kernel_size), 0)


def _finer(reach: Reach, factor: int) -> Reach:
    # Element i reads floor(i / factor): up to factor - 1 fine steps before its place.
    step = reach.step_px // factor
    before = reach.before_px + (factor - 1) * step
    return Reach(step_px=step, before_px=before, after_px=reach.after_px)


def _pixel_shuffle(reach: Reach, _image: Tensor, factor: int) -> Reach:
    return _finer(reach, factor)


def _interpolate(
    reach: Reach, _image: Tensor, *, scale_factor: float, mode: str, **_: Any
) -> Reach:
    if mode != "nearest" or scale_factor != int(scale_factor):
        raise EngineError(f"the receptive radius of {mode} interpolation is not known")
    return _finer(reach, int(scale_factor))


def _pixel_unshuffle(reach: Reach, _image: Tensor, factor: int) -> Reach:
    return _window(reach, factor, factor, 0)


def _pad(reach: Reach, _image: Tensor, pad: tuple[int, ...], **_: Any) -> Reach:
    if pad[0] or pad[2]:
        raise EngineError("padding on the left or above moves the sampling grid")
    return reach


def _pointwise(reach: Reach, *_: Any, **__: Any) -> Reach:
    return reach


def _over_shots(reach: Reach, _images: Any, dim: Any = 0, **_: Any) -> Reach:
    if dim != 0:
        raise EngineError("a mean over pixels has no receptive radius")
    return reach


_RULES: Final[Mapping[str, Callable[..., Reach]]] = {
    "conv2d": _conv2d,
    "max_pool2d": _max_pool2d,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "interpolate": _interpolate,
    "pad": _pad,
    "stack": _over_shots,
    "mean": _over_shots,
    # The one slice is the crop, which keeps pixel (0, 0).
    "__getitem__": _pointwise,
    **dict.fromkeys(("relu", "batch_norm", "add", "cat", "maximum"), _pointwise),
}


class _ReachMode(TorchFunctionMode):
    """Watch every operation, and keep the reach of each tensor that has one."""

    def __init__(self, images: list[Tensor]) -> None:
        super().__init__()
        start = Reach(step_px=1, before_px=0, after_px=0)
        # The tensor is kept beside its reach, so that no id is used twice.
        self._known = {id(image): (image, start) for image in images}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        seen = self._merged(args)
        if isinstance(result, Tensor) and seen is not None:
            name = getattr(func, "__name__", str(func))
            if name not in _RULES:
                raise EngineError(f"the receptive radius of {name!r} is not known")
            self._known[id(result)] = (result, _RULES[name](seen, *args, **kwargs))
        return result

    def reach_of(self, tensor: Tensor) -> Reach:
        """Return what an element of the tensor sees."""
        return self._known[id(tensor)][1]

    def _merged(self, args: Any) -> Reach | None:
        """Return the union of what the arguments, or lists of them, see."""
        flat = [part for arg in args for part in (arg if _is_list(arg) else [arg])]
        found = [self._known[id(part)][1] for part in flat if id(part) in self._known]
        if not found:
            return None
        if len({reach.step_px for reach in found}) > 1:
            raise EngineError("maps of different sampling meet in one operation")
        return Reach(
            step_px=found[0].step_px,
            before_px=max(reach.before_px for reach in found),
            after_px=max(reach.after_px for reach in found),
        )


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _side(size: Any) -> int:
    """Return the side of a square size; int, or a pair of equal ones."""
    pair = tuple(size) if _is_list(size) else (size, size)
    if len(set(pair)) != 1:
        raise EngineError(f"rows and columns differ in {pair}")
    return int(pair[0])
