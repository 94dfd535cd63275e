"""Narrow networks of each family, with weights that make every input matter."""

import logging
from typing import Any

import torch
from torch import nn

from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.hybrid import HybridNet
from bifocus.model.network_registry import build_network

NARROW: dict[str, dict[str, Any]] = {
    "base": {"widths": (8, 16), "blocks": (1, 1)},
    "fast": {"widths": (8, 16), "blocks": (1, 1)},
    "base-late": {"widths": (8, 16), "blocks": (1, 1)},
    "base-one-shot": {"widths": (8, 16), "blocks": (1, 1)},
    "tsva": {"base": 4},
    "unet": {"base": 4},
    "burst-unet": {"base": 4},
}


def silence_torch() -> None:
    """Keep torch's own log from pytest: it writes its whole trace, for seconds."""
    logging.getLogger("torch.__trace").disabled = True
    torch.set_num_threads(1)


def awake_network(name: str, **changes: Any) -> FusionNetwork:
    """Return a small network whose output differs from its base image everywhere."""
    torch.manual_seed(0)
    network = build_network(name, **{**NARROW[name], **changes})
    if isinstance(network, HybridNet):
        nn.init.normal_(network.decoder.head.weight, std=0.02)
    for part in network.modules():
        if isinstance(part, nn.Conv2d) and part.bias is not None:
            nn.init.normal_(part.bias, std=0.02)
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            nn.init.normal_(part.running_mean, std=0.1)
    return network.eval()
