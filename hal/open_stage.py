"""Opens the stage that the `stage:` section describes: virtual, or behind a port."""

from dataclasses import dataclass

from bifocus.clock import Clock
from bifocus.errors import ConfigError
from bifocus.hal.devices import Stage
from bifocus.hal.virtual_camera import PoseSource
from bifocus.hal.virtual_stage import VirtualStage
from bifocus.stage_config import AnyStage


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStage:
    """A stage in use; `poses` tells where the glass truly is, None on a real stage."""

    stage: Stage
    poses: PoseSource | None


def open_stage(config: AnyStage, *, clock: Clock, seed: int) -> OpenStage:
    """Open a stage; nothing moves.

    Parameters
    ----------
    config
        The `stage:` section.
    clock
        The instrument's clock.
    seed
        Draws the play and the noise of a virtual stage.
    """
    if config.kind == "virtual":
        stage = VirtualStage(config, clock=clock, seed=seed)
        return OpenStage(stage=stage, poses=stage)
    msg = f"stage '{config.name}': kind {config.kind} is not yet opened by this version"
    raise ConfigError(msg)
