"""Checkpoints: one safetensors file that rebuilds its own network, and says where from.

The file's metadata holds, as JSON, the network's name and configuration, the version of
this code, and what training wants to keep (data hash, step, seed, metrics). Nothing is
ever pickled. Format: https://github.com/huggingface/safetensors (metadata is a map of
strings). A file is written beside its place and moved there, so that a kill or a full
disk leaves the last good one.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bifocus import __version__
from bifocus.errors import BifocusError, ConfigError, EngineError
from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.network_registry import build_network, network_config
from bifocus.whole_file import write_whole

FORMAT = "bifocus-checkpoint-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedNetwork:
    """A network from a file, in evaluation mode on the CPU, and what came with it.

    Attributes
    ----------
    network
        The network with the file's weights, float32.
    name
        Its name in the registry.
    config
        Its whole configuration: ``build_network(name, **config)`` builds it again.
    training
        What training kept: data hash, step, seed, metrics and the like.
    code_version
        The version of bifocus that wrote the file.
    """

    network: FusionNetwork
    name: str
    config: dict[str, Any]
    training: dict[str, Any]
    code_version: str


def save_checkpoint(
    path: Path | str,
    network: FusionNetwork,
    *,
    name: str,
    config: dict[str, Any],
    training: dict[str, Any],
    half: bool = False,
) -> None:
    """Write the network to `path`, or leave what was there.

    Parameters
    ----------
    path
        The file, by custom ending in ``.safetensors``.
    network
        The network; its mode and device do not matter.
    name, config
        Registry name and overrides it was built with (all fields may be given).
    training
        Anything JSON can hold.
    half
        Store weights as float16, for shipping; loading gives float32 again.

    Raises
    ------
    ConfigError
        If name and config do not describe this network, or training is not JSON.
    EngineError
        If a weight is not finite.
    SlideFileError
        If the file cannot be written; an older one is kept.
    """
    described = network_config(name, **config)
    if described != network.config:
        raise ConfigError(
            f"{path}: {name!r} with {config} is {described}, "
            f"but the network is {network.config}"
        )
    tensors = {
        key: _storable(tensor, half=half)
        for key, tensor in network.state_dict().items()
    }
    _check_finite(tensors, path)
    document = {
        "format": FORMAT,
        "network": name,
        "config": dataclasses.asdict(network.config),
        "code_version": __version__,
        "training": training,
    }
    try:
        text = json.dumps(document, sort_keys=True, allow_nan=True)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: training holds what JSON cannot: {error}"
        ) from error
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, save(tensors, {"bifocus": text}))


def load_checkpoint(path: Path | str) -> LoadedNetwork:
    """Return the network of the file, rebuilt and in evaluation mode, on the CPU.

    Raises
    ------
    ConfigError
        If there is no such file, or it is not a checkpoint of this program.
    EngineError
        If the file is damaged, or its weights do not fit its network.
    """
    document, tensors = _read_file(Path(path))
    try:
        name, config = document["network"], document["config"]
        network = build_network(name, **config)
    except (KeyError, TypeError, BifocusError) as error:
        raise ConfigError(
            f"{path} was written by bifocus {document.get('code_version', '?')} for a "
            f"network that {__version__} cannot build: {error}"
        ) from error
    _check_finite(tensors, path)
    _fill(network, tensors, path)
    return LoadedNetwork(
        network=network.eval(),
        name=name,
        config=config,
        training=document.get("training", {}),
        code_version=document.get("code_version", "unknown"),
    )


def _storable(tensor: Tensor, *, half: bool) -> Tensor:
    stored = tensor.detach().to("cpu").contiguous()
    return stored.half() if half and stored.is_floating_point() else stored


def _check_finite(tensors: dict[str, Tensor], path: Path | str) -> None:
    bad = [key for key, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise EngineError(
            f"{path}: {len(bad)} of {len(tensors)} weights hold NaN or infinity, "
            f"first {bad[0]}; go back to the last good checkpoint"
        )


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise ConfigError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("bifocus", "{}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise EngineError(
            f"{path} is not a whole safetensors file ({error}); copy it again"
        ) from error
    document = _parsed(text)
    if document.get("format") != FORMAT:
        raise ConfigError(
            f"{path} has format {document.get('format')!r}, not {FORMAT!r}: it was not "
            "written by `bifocus train`"
        )
    return document, tensors


def _parsed(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _fill(network: FusionNetwork, tensors: dict[str, Tensor], path: Path | str) -> None:
    expected = network.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    extra = sorted(tensors.keys() - expected.keys())
    misfits = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in tensors and tensors[key].shape != tensor.shape
    ]
    if missing or extra or misfits:
        raise EngineError(
            f"{path} does not fit its own network: {len(missing)} weights missing "
            f"{missing[:3]}, {len(extra)} unknown {extra[:3]}, "
            f"{len(misfits)} of another shape {misfits[:3]}"
        )
    with torch.no_grad():
        for key, tensor in expected.items():
            tensor.copy_(tensors[key])
