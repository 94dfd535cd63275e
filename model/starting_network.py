"""The network that a training begins with: fresh, or another training's."""

import torch
from torch import nn

from bifocus.errors import ConfigError
from bifocus.model.centred_stem import centre_stem
from bifocus.model.checkpoint import load_checkpoint
from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.grown_network import is_grown, take_over
from bifocus.model.network_registry import build_network
from bifocus.model.train_config import TrainConfig


def start_network(config: TrainConfig) -> FusionNetwork:
    """Return a fresh network, or that of `initial_weights`, laid out to learn fast.

    Its stem is centred (`bifocus.model.centred_stem`) and its weights lie channels
    last, in which convolutions run fastest on CPU and GPU alike.

    Raises
    ------
    ConfigError
        If `initial_weights` holds a network of another shape; it may have fewer blocks
        (`bifocus.model.grown_network`).
    """
    network = build_network(config.network, **config.overrides)
    if config.initial_weights is not None:
        start = load_checkpoint(config.initial_weights)
        if not is_grown(network, start.network):
            msg = (
                f"{config.initial_weights} holds the network '{start.name}' "
                f"{start.config}, not '{config.network}' {config.overrides}, nor one "
                "with fewer blocks"
            )
            raise ConfigError(msg)
        take_over(network, start.network)
    centre_stem(network, is_fresh=config.initial_weights is None)
    _lay_channels_last(network)
    return network


def _lay_channels_last(network: nn.Module) -> None:
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(
                memory_format=torch.channels_last
            )
