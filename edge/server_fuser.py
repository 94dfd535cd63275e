"""An exported network on a model server: Triton, or any that speaks KServe v2 by gRPC.

A model whose tensors, or whose pixels on the test pair, are not those of the manifest
is refused.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from bifocus.edge.network_inputs import load_form
from bifocus.edge.parity_check import check_test_pair
from bifocus.edge.server_client import ServedModel
from bifocus.records import UInt8Image


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
        self.form = load_form(path)
        self.served = ServedModel(path, self.form, address, deadline_s=deadline_s)
        self.name = self.served.name
        try:
            check_test_pair(self, path.parent)
        except BaseException:
            self.close()
            raise

    def stream(
        self, windows: Iterable[Mapping[str, UInt8Image]]
    ) -> Iterator[UInt8Image]:
        """Yield each fused window; see `bifocus.edge.network_fuser.NetworkEngine`."""
        output = self.form.output
        for window in windows:
            feeds = {
                name: np.ascontiguousarray(window[name][None])
                for name in self.form.inputs
            }
            fused = self.served.infer(feeds, [output])[output]
            self.served.expect_picture(fused, feeds[self.form.inputs[0]].shape)
            yield fused[0]

    def close(self) -> None:
        """Close the connection."""
        self.served.close()
