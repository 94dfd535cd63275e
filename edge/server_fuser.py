"""An exported network on a model server: Triton, or any that speaks KServe v2 by gRPC.

Every request has a deadline. gRPC itself repeats what a server that is restarting
refuses, until that deadline; the request changes nothing there, so that it may arrive
twice. A model whose tensors, or whose pixels on the test pair, are not those of the
manifest is refused.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bifocus.edge.network_inputs import NetworkForm, check_tensors, load_form
from bifocus.edge.parity_check import check_test_pair
from bifocus.engine_manifest import TensorSpec
from bifocus.errors import ConfigError, EngineError, EngineLostError
from bifocus.records import UInt8Image

# Of the KServe v2 protocol, "Tensor Data Types".
_DTYPES: Mapping[str, Literal["uint8", "float32", "float16"]] = {
    "UINT8": "uint8",
    "FP32": "float32",
    "FP16": "float16",
}
# How gRPC treats a server that is not there: see "service config" in its guides.
_SERVICE = {
    "methodConfig": [
        {
            "name": [{"service": "inference.GRPCInferenceService"}],
            "waitForReady": True,
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_CHANNEL = [
    ("grpc.service_config", json.dumps(_SERVICE)),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A window is megabytes; gRPC's own limit is four.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


class ServerEngine:
    """A network on a server; one thread at a time.

    Parameters
    ----------
    path
        The exported file, or the manifest of a model repository: what the server
        is expected to serve.
    address
        HOST:PORT of its gRPC service.
    deadline_s
        For one request, repetitions included.

    Raises
    ------
    ConfigError
        If no address is given.
    EngineError
        If tritonclient is not installed, the server does not answer, has no such
        model, or has another one.
    """

    def __init__(self, path: Path, address: str | None, *, deadline_s: float) -> None:
        if address is None:
            msg = (
                "--engine server needs its address: --server HOST:PORT, or scan.server"
            )
            raise ConfigError(msg)
        self.form = load_form(path)
        self._grpc = _import_client(path)
        self._address, self._deadline_s = address, deadline_s
        self._model = _model_name(self.form)
        self._client: Any = self._grpc.InferenceServerClient(
            address, channel_args=_CHANNEL
        )
        self.name = f"server {address}"
        try:
            self._check()
            check_test_pair(self, path.parent)
        except BaseException:
            self.close()
            raise

    def stream(
        self, windows: Iterable[Mapping[str, UInt8Image]]
    ) -> Iterator[UInt8Image]:
        """Yield each fused window; see `bifocus.edge.network_fuser.NetworkEngine`."""
        for window in windows:
            yield self._infer(window)

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _check(self) -> None:
        try:
            told = self._usable().get_model_metadata(
                self._model, client_timeout=self._deadline_s
            )
        except self._grpc.InferenceServerException as error:
            raise EngineError(self._explain(error)) from error
        found = [
            TensorSpec(
                name=tensor.name,
                dtype=_DTYPES.get(tensor.datatype, "int64"),
                layout="NHWC" if list(tensor.shape)[-1:] == [3] else "NCHW",
            )
            for tensor in (*told.inputs, *told.outputs)
        ]
        check_tensors(self.form, found, f"model {self._model} on {self._address}")
        version = ", ".join(told.versions) or "?"
        self.name = f"server {self._address}, {told.platform}, version {version}"

    def _infer(self, window: Mapping[str, UInt8Image]) -> UInt8Image:
        inputs = []
        for name in self.form.inputs:
            batch = np.ascontiguousarray(window[name][None])
            tensor = self._grpc.InferInput(name, list(batch.shape), "UINT8")
            inputs.append(tensor.set_data_from_numpy(batch))
        outputs = [self._grpc.InferRequestedOutput(self.form.output)]
        try:
            result = self._usable().infer(
                self._model,
                inputs,
                outputs=outputs,
                client_timeout=self._deadline_s,
            )
        except self._grpc.InferenceServerException as error:
            raise EngineLostError(self._explain(error)) from error
        fused = result.as_numpy(self.form.output)
        expected = (1, *window[self.form.inputs[0]].shape)
        if fused is None or fused.dtype != np.uint8 or fused.shape != expected:
            what = "nothing" if fused is None else f"{fused.dtype} {fused.shape}"
            msg = f"model {self._model} on {self._address} gave {what}"
            raise EngineLostError(f"{msg}, expected uint8 {expected}")
        pixels: UInt8Image = fused[0]
        return pixels

    def _usable(self) -> Any:
        if self._client is None:
            msg = f"{self.form.network}: the connection is closed"
            raise EngineError(msg)
        return self._client

    def _explain(self, error: Any) -> str:
        status = str(error.status() or "").removeprefix("StatusCode.")
        where = f"model {self._model} on {self._address}"
        if status == "DEADLINE_EXCEEDED":
            return (
                f"{where}: no answer in {self._deadline_s:g} s; see whether the server "
                "runs and is reached, or raise scan.server_deadline_s"
            )
        if status == "NOT_FOUND":
            return (
                f"{where}: the server has no such model; make its repository with "
                "bifocus export ... --to triton"
            )
        return f"{where}: {status or 'error'}: {error.message()}"


def _model_name(form: NetworkForm) -> str:
    """Return the name in a model repository; a plain file goes by its network's."""
    manifest = form.manifest
    if manifest is not None and manifest.kind == "triton":
        return manifest.main_file.partition("/")[0]
    return form.network


def _import_client(path: Path) -> Any:
    try:
        import tritonclient.grpc
    except ImportError as error:
        msg = f"{path}: needs tritonclient; pip install 'bifocus[server]'"
        raise EngineError(msg) from error
    return tritonclient.grpc
