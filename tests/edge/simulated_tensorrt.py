"""TensorRT over the simulated GPU: its kernels are ONNX Runtime, its names recorded."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np

from bifocus.cuda_device import CudaDevice
from tests.edge.network_files import INPUTS, make_graph, run_whole, write_network
from tests.edge.simulated_gpu import SimulatedCudaError, SimulatedGpu
from tests.edge.whole_files import make_whole_graph
from tests.export.tensorrt_double import FakeTensorRT, Recorded

SIZE_PX = (64, 48)  # rows, columns
GPU = CudaDevice(
    name="Simulated",
    compute_capability="8.7",
    driver="CUDA 12.6",
    is_integrated=False,
    total_bytes=2**33,
    free_bytes=2**32,
)


class SimulatedTensorRT(FakeTensorRT):
    """A module of one recorded version whose engines run `graph` on the GPU."""

    def __init__(
        self, gpu: SimulatedGpu, version: str = "tensorrt-10.3.0", **options: Any
    ) -> None:
        super().__init__(version, **options)
        self.gpu = gpu
        self.graph = make_graph()
        self.tensors = (*INPUTS, "fused")
        self.refuses_to_queue = False
        self.has_context = True

    def engine(self) -> Recorded:
        modes, shape = self.TensorIOMode, (1, *SIZE_PX, 3)
        return self.object(
            "ICudaEngine",
            num_io_tensors=len(self.tensors),
            get_tensor_name=self.tensors.__getitem__,
            get_tensor_dtype=lambda _name: self.DataType.UINT8,
            get_tensor_shape=lambda _name: shape,
            get_tensor_mode=lambda name: (
                modes.OUTPUT if name == "fused" else modes.INPUT
            ),
            create_execution_context=lambda: (
                self.context() if self.has_context else None
            ),
        )

    def context(self) -> Recorded:
        addresses: dict[str, int] = {}

        def compute(memory: list[Any]) -> list[Any]:
            pictures = {
                name: part.reshape(*SIZE_PX, 3)
                for name, part in zip(INPUTS, memory, strict=True)
            }
            return [np.ascontiguousarray(run_whole(self.graph, pictures))]

        def execute(handle: int) -> bool:
            if self.refuses_to_queue:
                return False
            try:
                reads = [addresses[name] for name in INPUTS]
                self.gpu.launch(handle, reads, [addresses["fused"]], compute)
            except SimulatedCudaError:
                return False
            return True

        def set_address(name: str, memory: int) -> bool:
            self.gpu.find(memory)
            addresses[name] = memory
            return True

        made = self.object(
            "IExecutionContext",
            set_tensor_address=set_address,
            execute_async_v3=execute,
        )
        weakref.finalize(made, lambda: self.gpu.calls.append("context gone"))
        return made


def write_engine(folder: Path, trt: SimulatedTensorRT, **changes: Any) -> Path:
    """Write an engine's file and manifest as `bifocus export --to tensorrt` does."""
    built_with = {
        "tensorrt": f"tensorrt {trt.__version__}",
        "device": GPU.name,
        "compute_capability": GPU.compute_capability,
        "driver": GPU.driver,
        "profile": "1x64x48",
        "options": "fp16, level 3",
        **changes.pop("built_with", {}),
    }
    values: dict[str, Any] = {
        "content": trt.plan,
        "kind": "tensorrt",
        "precision": "fp16",
        "batch": 1,
        "height_px": SIZE_PX[0],
        "width_px": SIZE_PX[1],
        "built_with": built_with,
        "built_from_sha256": "1" * 64,
    }
    return write_network(folder, "tiny.engine", **{**values, **changes})


class WholeTensorRT(SimulatedTensorRT):
    """Its engines are the whole fusion of `tests.edge.whole_files`."""

    def engine(self) -> Recorded:
        import onnxruntime

        session = onnxruntime.InferenceSession(
            make_whole_graph(), providers=["CPUExecutionProvider"]
        )
        inputs = {node.name: tuple(node.shape) for node in session.get_inputs()}
        outputs = {node.name: tuple(node.shape) for node in session.get_outputs()}
        shapes = {**inputs, **outputs}
        names, modes, kinds = [*shapes], self.TensorIOMode, self.DataType
        return self.object(
            "ICudaEngine",
            num_io_tensors=len(names),
            get_tensor_name=names.__getitem__,
            get_tensor_dtype=lambda name: (
                kinds.UINT8 if name in ("minus", "plus", "fused") else kinds.FLOAT
            ),
            get_tensor_shape=shapes.__getitem__,
            get_tensor_mode=lambda name: (
                modes.INPUT if name in inputs else modes.OUTPUT
            ),
            create_execution_context=lambda: self._whole(session, inputs, [*outputs]),
        )

    def _whole(
        self, session: Any, inputs: dict[str, Any], outputs: list[str]
    ) -> Recorded:
        addresses: dict[str, int] = {}

        def compute(memory: list[Any]) -> list[Any]:
            feeds = {
                name: (part if name in ("minus", "plus") else part.view(np.float32))
                .reshape(shape)
                .copy()
                for (name, shape), part in zip(inputs.items(), memory, strict=True)
            }
            found = session.run(outputs, feeds)
            return [np.atleast_1d(part).reshape(-1).view(np.uint8) for part in found]

        def execute(handle: int) -> bool:
            reads = [addresses[name] for name in inputs]
            writes = [addresses[name] for name in outputs]
            self.gpu.launch(handle, reads, writes, compute)
            return True

        def set_address(name: str, memory: int) -> bool:
            self.gpu.find(memory)
            addresses[name] = memory
            return True

        return self.object(
            "IExecutionContext",
            set_tensor_address=set_address,
            execute_async_v3=execute,
        )
