"""Every network by name: the tiers, their ablations, the paper's networks.

One way to build: ``build_network("base")``,
``build_network("tsva", batch_norm=False)``.
Sizes and costs: reference/network.md, sections 2 and 6.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bifocus.errors import ConfigError
from bifocus.model.burst_unet import BurstUNet, BurstUNetConfig
from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.hybrid import HybridConfig, HybridNet
from bifocus.model.tsva import Tsva, TsvaConfig
from bifocus.model.unet import UNet, UNetConfig

NetworkConfig = HybridConfig | TsvaConfig | UNetConfig | BurstUNetConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedNetwork:
    """A family and the shape a name stands for, with one line on what it is for."""

    family: type[FusionNetwork]
    config: NetworkConfig
    purpose: str


# A quarter of base's CPU time: with the physics image, that both need, just half.
_FAST: Final = HybridConfig(shuffle=4, widths=(32, 64), blocks=(1, 3))
_BASE: Final = HybridConfig(shuffle=2, widths=(32, 64, 128), blocks=(1, 1, 2))
# More blocks where pixels are finest: half as many products again, but hardly more
# weights, so that all three fit into 10 MB. It starts as base (`grown_network`).
_LARGE: Final = HybridConfig(shuffle=2, widths=(32, 64, 128), blocks=(3, 1, 2))


def _hybrid(config: HybridConfig, purpose: str) -> NamedNetwork:
    return NamedNetwork(family=HybridNet, config=config, purpose=purpose)


NETWORKS: Final[Mapping[str, NamedNetwork]] = {
    "fast": _hybrid(_FAST, "the tier for small machines"),
    "base": _hybrid(_BASE, "the default"),
    "large": _hybrid(_LARGE, "the tier for a desktop GPU"),
    # One shot sees no physics image, which is made of both: compare base-no-physics.
    "base-one-shot": _hybrid(
        dataclasses.replace(_BASE, use_second_shot=False, use_physics=False),
        "ablation: the sharper shot alone",
    ),
    "base-late": _hybrid(
        dataclasses.replace(_BASE, is_late_fusion=True),
        "ablation: a shared encoder per shot, merged late",
    ),
    "base-no-physics": _hybrid(
        dataclasses.replace(_BASE, use_physics=False),
        "ablation: both shots, residual to the sharper",
    ),
    "tsva": NamedNetwork(family=Tsva, config=TsvaConfig(), purpose="the paper's"),
    "tsva16": NamedNetwork(
        family=Tsva,
        config=TsvaConfig(base=16),
        purpose="the paper's at a quarter width",
    ),
    "tsva32": NamedNetwork(
        family=Tsva, config=TsvaConfig(base=32), purpose="the paper's at half width"
    ),
    "unet": NamedNetwork(
        family=UNet, config=UNetConfig(), purpose="the paper's single-shot baseline"
    ),
    "unet-residual": NamedNetwork(
        family=UNet,
        config=UNetConfig(residual=True),
        purpose="the fair single-shot baseline",
    ),
    "burst-unet": NamedNetwork(
        family=BurstUNet,
        config=BurstUNetConfig(),
        purpose="permutation-invariant pooling of Aittala and Durand",
    ),
}


def network_config(name: str, **overrides: Any) -> NetworkConfig:
    """Return the configuration that `name` with `overrides` stands for.

    Parameters
    ----------
    name
        One of `NETWORKS`.
    overrides
        Fields of the family's dataclass to change; lists, as JSON and YAML give them,
        count as tuples.

    Raises
    ------
    ConfigError
        If the name, or a field, is unknown, or a value is out of range.
    """
    config: Any = _named(name).config  # a union of dataclasses, checked by name below
    known = [field.name for field in dataclasses.fields(config)]
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        raise ConfigError(
            f"network {name!r} has no {', '.join(unknown)}; "
            f"it can change {', '.join(known)}"
        )
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in overrides.items()
    }
    changed: NetworkConfig = dataclasses.replace(config, **values)
    return changed


def build_network(name: str, **overrides: Any) -> FusionNetwork:
    """Return the network `name` with fresh weights, in training mode.

    Parameters and errors are those of `network_config`. Weights come from torch's
    global generator: seed it first.
    """
    config = network_config(name, **overrides)
    family: Any = _named(name).family  # each family takes its own dataclass
    network: FusionNetwork = family(config)
    return network


def _named(name: str) -> NamedNetwork:
    if name not in NETWORKS:
        raise ConfigError(
            f"there is no network {name!r}; the networks are {', '.join(NETWORKS)}"
        )
    return NETWORKS[name]
