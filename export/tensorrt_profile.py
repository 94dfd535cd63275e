"""What to build, and the one size that the engine takes.

A tile of another size would be a build of minutes in the middle of a scan, so that each
engine has one profile whose least, usual and greatest sizes are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bifocus.errors import ConfigError, EngineError
from bifocus.export.tensorrt_audit import Claim
from bifocus.tensorrt_api import (
    Builder,
    IBuilderConfig,
    INetworkDefinition,
    ITensor,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What to build.

    Attributes
    ----------
    claim
        What the graph is said to be; see `bifocus.export.tensorrt_audit`.
    batch, height_px, width_px
        The one size that the engine takes.
    stride_px
        The sides must be multiples of it.
    optimisation_level
        0 (a fast build) to 5 (a fast engine); 3 is TensorRT's own default.
    workspace_bytes
        Most memory that any layer may use while it runs.
    can_run
        Whether a GPU is here, so that the finished engine can be loaded and inspected.
    """

    claim: Claim
    batch: int = 1
    height_px: int
    width_px: int
    stride_px: int
    optimisation_level: int = 3
    workspace_bytes: int
    can_run: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0 <= self.optimisation_level <= 5:
            msg = f"optimisation level is {self.optimisation_level}; it is 0 to 5"
            raise ConfigError(msg)
        for side_px in (self.height_px, self.width_px):
            if side_px < 1 or side_px % self.stride_px:
                nearest = max(1, round(side_px / self.stride_px)) * self.stride_px
                msg = (
                    f"a tile side of {side_px} px is no multiple of the network's "
                    f"stride, {self.stride_px} px; the nearest legal side is "
                    f"{nearest} px"
                )
                raise ConfigError(msg)


def add_profile(
    builder: Builder,
    config: IBuilderConfig,
    network: INetworkDefinition,
    options: BuildOptions,
) -> None:
    """Fix every free size of the inputs.

    Raises
    ------
    EngineError
        If the graph is fixed to another size, or TensorRT refuses this one.
    """
    profile = builder.create_optimization_profile()
    is_needed = False
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        if -1 in tuple(tensor.shape):
            shape = fixed_shape(tensor, options)
            profile.set_shape(tensor.name, min=shape, opt=shape, max=shape)
            is_needed = True
        elif tensor.name in options.claim.images:
            _check_fixed(tensor, options)
    if is_needed and config.add_optimization_profile(profile) < 0:
        msg = f"TensorRT refuses the size {_size(options)} for this graph"
        raise EngineError(msg)


def fixed_shape(tensor: ITensor, options: BuildOptions) -> tuple[int, ...]:
    """Return an input's shape with its free sizes filled in: NHWC, or batch first.

    Raises
    ------
    EngineError
        If a size is free that is none of batch, height and width.
    """
    shape = tuple(tensor.shape)
    if len(shape) == 4:
        sizes: tuple[int, ...] = (
            options.batch,
            options.height_px,
            options.width_px,
            shape[3],
        )
    else:
        sizes = (options.batch, *shape[1:])
    filled = tuple(
        size if known == -1 else known for known, size in zip(shape, sizes, strict=True)
    )
    if -1 in filled:
        msg = f"input '{tensor.name}' of shape {shape}: only N, H and W may be free"
        raise EngineError(msg)
    if tensor.name in options.claim.images and filled != sizes:
        raise EngineError(_wrong_size(tensor.name, filled, options))
    return filled


def _check_fixed(tensor: ITensor, options: BuildOptions) -> None:
    shape = tuple(tensor.shape)
    if shape[:3] != (options.batch, options.height_px, options.width_px):
        raise EngineError(_wrong_size(tensor.name, shape, options))


def _wrong_size(name: str, shape: Sequence[int], options: BuildOptions) -> str:
    return (
        f"the graph's input '{name}' is fixed to {tuple(shape)}, and {_size(options)} "
        "was asked for; export the graph for that size"
    )


def _size(options: BuildOptions) -> str:
    return f"{options.batch}x{options.height_px}x{options.width_px}"
