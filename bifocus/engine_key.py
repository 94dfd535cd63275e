"""For which machine a TensorRT engine was built, and whether that is this one.

An engine is machine code for one GPU architecture and one TensorRT. Loaded elsewhere it
fails with words like "magicTag" (TensorRT issues 70, 702, 2041), or runs slowly. So the
loop compares before it loads; only `bifocus export` builds.
"""

import hashlib
from dataclasses import asdict, dataclass

from bifocus.cuda_device import CudaDevice
from bifocus.engine_manifest import EngineManifest
from bifocus.errors import EngineError
from bifocus.tensorrt_api import TensorRT
from bifocus.tensorrt_module import full_name, is_rtx

# An RTX engine is compiled for a GPU only when it is loaded there.
ANY_RTX = "any RTX GPU"
_WORDS = {
    "tensorrt": "TensorRT",
    "device": "the GPU",
    "compute_capability": "its compute capability",
    "driver": "the driver",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """All that an engine depends on; equal keys, equal engines.

    Attributes
    ----------
    graph_sha256
        Of the ONNX file.
    tensorrt
        Flavour and version: "tensorrt 10.3.0".
    device, compute_capability, driver
        Of the GPU; `ANY_RTX`, and empty, for TensorRT for RTX.
    profile
        The size: "1x1024x1224".
    options
        Precision and optimisation level: "fp16, level 3".
    """

    graph_sha256: str
    tensorrt: str
    device: str
    compute_capability: str
    driver: str
    profile: str
    options: str

    @property
    def machine_digest(self) -> str:
        """Eight hex digits of what timings depend on: TensorRT, GPU and driver."""
        facts = (self.tensorrt, self.device, self.compute_capability, self.driver)
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]

    def built_with(self) -> dict[str, str]:
        """Return what the manifest keeps; the graph's hash has its own place there."""
        kept = asdict(self)
        del kept["graph_sha256"]
        return kept


def machine_facts(trt: TensorRT, device: CudaDevice | None) -> dict[str, str]:
    """Return the part of a key that the machine decides.

    Raises
    ------
    EngineError
        If TensorRT needs a GPU and there is none.
    """
    if is_rtx(trt):
        gpu = {"device": ANY_RTX, "compute_capability": "", "driver": ""}
    elif device is None:
        msg = (
            f"{full_name(trt)} builds only on the GPU that is to run the engine, and "
            "there is none here; run bifocus export on that machine"
        )
        raise EngineError(msg)
    else:
        gpu = {
            "device": device.name,
            "compute_capability": device.compute_capability,
            "driver": device.driver,
        }
    return {"tensorrt": full_name(trt), **gpu}


def differences(kept: dict[str, str], here: dict[str, str]) -> list[str]:
    """Return one clause for each fact in which an engine and this machine differ."""
    return [
        f"{_WORDS.get(name, name)} was {kept.get(name) or 'not told'} and is {value}"
        for name, value in here.items()
        if kept.get(name) != value
    ]


def check_built_here(
    manifest: EngineManifest, trt: TensorRT, device: CudaDevice | None
) -> None:
    """Refuse an engine that was built for another machine, before a byte is loaded.

    Raises
    ------
    EngineError
        In one sentence, with the command that mends it.
    """
    found = differences(manifest.built_with, machine_facts(trt, device))
    if found:
        msg = (
            f"{manifest.main_file}: built for another machine: {'; '.join(found)}. "
            f"Mend: {manifest.export_command}"
        )
        raise EngineError(msg)
