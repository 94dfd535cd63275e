"""The running mean of a network's weights, which is what validation and users get."""

import copy

import torch
from torch import Tensor

from bifocus.model.centred_stem import uncentre_stem
from bifocus.model.fusion_network import FusionNetwork


class AveragedWeights:
    """An exponential moving average of all weights; `tensors` by name.

    Parameters
    ----------
    network
        The network that learns.
    decay
        Share of the mean that a step keeps; 0 takes the weights as they are.
    """

    def __init__(self, network: FusionNetwork, decay: float) -> None:
        self._network = network
        self._decay = decay
        self.tensors: dict[str, Tensor] = {
            key: value.detach().clone() for key, value in network.state_dict().items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step number `step`, counted from 0."""
        # Early on the mean must not remember the start: 1/11, 2/12, ...
        decay = min(self._decay, (1 + step) / (10 + step))
        for key, value in self._network.state_dict().items():
            if value.is_floating_point():
                self.tensors[key].lerp_(value, 1 - decay)
            else:
                self.tensors[key].copy_(value)

    def make_network(self) -> FusionNetwork:
        """Return a network of its own with the mean weights, in evaluation mode."""
        averaged = copy.deepcopy(self._network)
        averaged.load_state_dict(self.tensors)
        uncentre_stem(averaged)
        return averaged.eval()
