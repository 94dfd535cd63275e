"""A whole fusion on a model server: two shots go there, and the tile comes back."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bifocus.edge.network_inputs import load_form
from bifocus.edge.parity_check import check_whole_pair
from bifocus.edge.server_client import ServedModel
from bifocus.edge.whole_fuser import Numbers
from bifocus.optics_inputs import Float32
from bifocus.records import UInt8Image


class WholeServerEngine:
    """A whole fusion on a server; one thread at a time.

    Parameters and errors are those of `bifocus.edge.server_fuser.ServerEngine`. The
    tables go with each pair, since a server keeps nothing: half a megabyte beside two
    shots of 3.8.
    """

    def __init__(self, path: Path, address: str | None, *, deadline_s: float) -> None:
        self.form = load_form(path, is_whole=True)
        self.served = ServedModel(path, self.form, address, deadline_s=deadline_s)
        self.name = self.served.name
        self._tables: dict[str, Float32] = {}
        self._outputs = [self.form.output, *(one.name for one in self.form.numbers)]
        try:
            check_whole_pair(self, path.parent)
        except BaseException:
            self.close()
            raise

    def set_tables(self, tables: Mapping[str, Float32]) -> None:
        """Take over the tables; see `bifocus.edge.whole_fuser.WholeEngine`."""
        self._tables = dict(tables)

    def fuse_pair(self, shots: Mapping[str, UInt8Image]) -> tuple[UInt8Image, Numbers]:
        """Return picture and numbers; see `bifocus.edge.whole_fuser.WholeEngine`."""
        feeds = {name: np.ascontiguousarray(shot[None]) for name, shot in shots.items()}
        found = self.served.infer({**feeds, **self._tables}, self._outputs)
        fused = found.pop(self.form.output)
        self.served.expect_picture(fused, feeds[self.form.inputs[0]].shape)
        numbers = {
            spec.name: found[spec.name].reshape(spec.shape or ())
            for spec in self.form.numbers
        }
        return fused[0], numbers

    def close(self) -> None:
        """Close the connection."""
        self.served.close()
