"""A network with more blocks begins as the smaller one that it grew from.

A residual block whose last convolution is zero changes nothing (T. Chen et al.,
Net2Net, ICLR 2016, section 3.3). So `large` need not learn again what `base` has.
"""

import dataclasses

import torch

from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.hybrid import HybridNet


def is_grown(network: FusionNetwork, start: FusionNetwork) -> bool:
    """Return whether `start` is `network`, or one of its family with fewer blocks."""
    if network.config == start.config:
        return True
    if not (isinstance(network, HybridNet) and isinstance(start, HybridNet)):
        return False
    old, new = start.config, network.config
    if len(old.blocks) != len(new.blocks):
        return False
    return dataclasses.replace(old, blocks=new.blocks) == new and all(
        few <= many for few, many in zip(old.blocks, new.blocks, strict=True)
    )


def take_over(network: FusionNetwork, start: FusionNetwork) -> None:
    """Copy all weights of `start`; blocks that it lacks are made to change nothing."""
    network.load_state_dict(start.state_dict(), strict=False)
    known = start.state_dict()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name not in known and ".second." in name:
                parameter.zero_()
