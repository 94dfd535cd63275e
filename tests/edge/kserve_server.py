"""KServe v2 servers on the loopback, from tritonclient's own generated servicer."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bifocus.records import UInt8Image
from tests.edge.network_files import INPUTS, run_whole

Compute = Callable[[Mapping[str, UInt8Image]], Any]


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Serves one model; what it does can be changed while it runs."""

    def __init__(self, content: bytes, name: str = "tiny") -> None:
        self.name = name
        self.inputs: tuple[str, ...] = INPUTS
        self.datatype = "UINT8"
        self.compute: Compute = lambda pictures: run_whole(content, dict(pictures))
        self.let_go = threading.Event()
        self.let_go.set()
        self.refusals = 0
        self.requests = 0

    def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.name != self.name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model '{request.name}'")
        tensor = service_pb2.ModelMetadataResponse.TensorMetadata
        shape = [-1, -1, -1, 3]
        return service_pb2.ModelMetadataResponse(
            name=self.name,
            versions=["1"],
            platform="loopback",
            inputs=[
                tensor(name=name, datatype=self.datatype, shape=shape)
                for name in self.inputs
            ],
            outputs=[tensor(name="fused", datatype="UINT8", shape=shape)],
        )

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.requests += 1
        if self.refusals:
            self.refusals -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
        self.let_go.wait(timeout=10)
        pictures = {
            tensor.name: np.frombuffer(raw, np.uint8).reshape(tuple(tensor.shape)[1:])
            for tensor, raw in zip(
                request.inputs, request.raw_input_contents, strict=True
            )
        }
        fused = np.ascontiguousarray(self.compute(pictures))
        response = service_pb2.ModelInferResponse(model_name=self.name)
        response.outputs.add(name="fused", datatype="UINT8", shape=[1, *fused.shape])
        response.raw_output_contents.append(fused.tobytes())
        return response


class WholeServicer(Servicer):
    """Serves a graph of several tensors as a Triton does: no tensor without an axis."""

    def __init__(self, content: bytes, name: str = "tiny") -> None:
        import onnxruntime

        super().__init__(content, name)
        self.session = onnxruntime.InferenceSession(
            content, providers=["CPUExecutionProvider"]
        )
        self.shots = ("minus", "plus")

    def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.name != self.name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model '{request.name}'")
        tensor = service_pb2.ModelMetadataResponse.TensorMetadata
        inputs, outputs = (
            [
                tensor(
                    name=node.name,
                    datatype="UINT8" if "uint8" in node.type else "FP32",
                    shape=node.shape or [1],
                )
                for node in nodes
            ]
            for nodes in (self.session.get_inputs(), self.session.get_outputs())
        )
        return service_pb2.ModelMetadataResponse(
            name=self.name,
            versions=["1"],
            platform="loopback",
            inputs=inputs,
            outputs=outputs,
        )

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.requests += 1
        dtypes: dict[str, Any] = {"UINT8": np.uint8, "FP32": np.float32}
        feeds = {
            tensor.name: np.frombuffer(raw, dtypes[tensor.datatype]).reshape(
                tuple(tensor.shape)
            )
            for tensor, raw in zip(
                request.inputs, request.raw_input_contents, strict=True
            )
        }
        swapped = dict(zip(("minus", "plus"), self.shots, strict=True))
        feeds |= {name: feeds[other] for name, other in swapped.items()}
        names = [output.name for output in request.outputs]
        response = service_pb2.ModelInferResponse(model_name=self.name)
        for name, array in zip(names, self.session.run(names, feeds), strict=True):
            kind = "UINT8" if array.dtype == np.uint8 else "FP32"
            shape = [*array.shape] or [1]
            response.outputs.add(name=name, datatype=kind, shape=shape)
            response.raw_output_contents.append(np.ascontiguousarray(array).tobytes())
        return response


@contextmanager
def serving(servicer: Servicer, port: int = 0) -> Iterator[int]:
    """Serve on 127.0.0.1 until left; gives the port."""
    with ThreadPoolExecutor(4, thread_name_prefix="kserve") as pool:
        unlimited = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
        ]
        server = grpc.server(pool, options=unlimited)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield bound
        finally:
            servicer.let_go.set()
            server.stop(grace=None).wait()
