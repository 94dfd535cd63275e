"""One model on a model server: Triton, or any that speaks KServe v2 by gRPC.

Every request has a deadline. gRPC itself repeats what a server that is restarting
refuses, until that deadline; the request changes nothing there, so that it may arrive
twice.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from bifocus.edge.network_inputs import NetworkForm, check_tensors
from bifocus.engine_manifest import TensorSpec
from bifocus.errors import ConfigError, EngineError, EngineLostError

Array = npt.NDArray[Any]

# Of the KServe v2 protocol, "Tensor Data Types".
_Dtype = Literal["uint8", "float32", "float16", "int64"]
_DTYPES: Mapping[str, _Dtype] = {
    "UINT8": "uint8",
    "FP32": "float32",
    "FP16": "float16",
}
_KINDS: Mapping[str, str] = {dtype: kind for kind, dtype in _DTYPES.items()}
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


class ServedModel:
    """The connection to the model that a file was exported for; one thread at a time.

    Parameters
    ----------
    path
        The exported file, for the texts of errors.
    form
        What the model must take and give; it is asked at once.
    address
        HOST:PORT of the server's gRPC service.
    deadline_s
        For one request, repetitions included.

    Raises
    ------
    ConfigError
        If no address is given.
    EngineError
        If tritonclient is not installed, the server does not answer, has no such
        model, or one with other tensors.
    """

    def __init__(
        self, path: Path, form: NetworkForm, address: str | None, *, deadline_s: float
    ) -> None:
        if address is None:
            msg = (
                "--engine server needs its address: --server HOST:PORT, or scan.server"
            )
            raise ConfigError(msg)
        self.deadline_s = deadline_s
        self._form, self._address = form, address
        self._grpc = _import_client(path)
        self._model = _model_name(form)
        self._client: Any = self._grpc.InferenceServerClient(
            address, channel_args=_CHANNEL
        )
        try:
            self.name = self._check()
        except BaseException:
            self.close()
            raise

    def infer(
        self, feeds: Mapping[str, Array], outputs: Sequence[str]
    ) -> dict[str, Array]:
        """Return the outputs by name.

        Raises
        ------
        EngineLostError
            If the server does not answer in time, refuses, or leaves an output out.
        """
        inputs = []
        for name, array in feeds.items():
            kind = _KINDS[str(array.dtype)]
            tensor = self._grpc.InferInput(name, list(array.shape), kind)
            inputs.append(tensor.set_data_from_numpy(array))
        wanted = [self._grpc.InferRequestedOutput(name) for name in outputs]
        try:
            result = self._usable().infer(
                self._model, inputs, outputs=wanted, client_timeout=self.deadline_s
            )
        except self._grpc.InferenceServerException as error:
            raise EngineLostError(self._explain(error)) from error
        found = {name: result.as_numpy(name) for name in outputs}
        missing = [name for name, array in found.items() if array is None]
        if missing:
            msg = f"model {self._model} on {self._address} gave no '{missing[0]}'"
            raise EngineLostError(msg)
        return found

    def expect_picture(self, fused: Array, shape: tuple[int, ...]) -> None:
        """Raise `EngineLostError` if an answer is no picture of this shape."""
        if fused.dtype != "uint8" or fused.shape != shape:
            msg = (
                f"model {self._model} on {self._address} gave {fused.dtype} "
                f"{fused.shape}, expected uint8 {shape}"
            )
            raise EngineLostError(msg)

    def close(self) -> None:
        """Close the connection; may be called twice."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _check(self) -> str:
        """Compare the model's tensors with the form; return what serves it."""
        try:
            told = self._usable().get_model_metadata(
                self._model, client_timeout=self.deadline_s
            )
        except self._grpc.InferenceServerException as error:
            raise EngineError(self._explain(error)) from error
        numbers = {spec.name for spec in self._form.numbers if not spec.shape}
        found = [
            _spec(tensor, is_scalar=tensor.name in numbers)
            for tensor in (*told.inputs, *told.outputs)
        ]
        check_tensors(self._form, found, f"model {self._model} on {self._address}")
        version = ", ".join(told.versions) or "?"
        return f"server {self._address}, {told.platform}, version {version}"

    def _usable(self) -> Any:
        if self._client is None:
            msg = f"{self._form.network}: the connection is closed"
            raise EngineError(msg)
        return self._client

    def _explain(self, error: Any) -> str:
        status = str(error.status() or "").removeprefix("StatusCode.")
        where = f"model {self._model} on {self._address}"
        if status == "DEADLINE_EXCEEDED":
            return (
                f"{where}: no answer in {self.deadline_s:g} s; see whether the server "
                "runs and is reached, or raise scan.server_deadline_s"
            )
        if status == "NOT_FOUND":
            return (
                f"{where}: the server has no such model; make its repository with "
                "bifocus export ... --to triton"
            )
        return f"{where}: {status or 'error'}: {error.message()}"


def _spec(tensor: Any, *, is_scalar: bool) -> TensorSpec:
    """Return a served tensor as the manifest names it; a shape where no picture."""
    shape = tuple(tensor.shape)
    if is_scalar and shape == (1,):
        shape = ()  # Triton has no tensors without an axis
    dtype: _Dtype = _DTYPES.get(tensor.datatype, "int64")
    is_picture = len(shape) == 4 and dtype == "uint8"
    return TensorSpec(
        name=tensor.name,
        dtype=dtype,
        layout="NHWC" if shape[-1:] == (3,) else "NCHW",
        shape=None if is_picture or -1 in shape else shape,
    )


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
