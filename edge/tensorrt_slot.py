"""One place in the ring of a TensorRT engine: all that a window in flight needs."""

from typing import TYPE_CHECKING

from bifocus.edge.device_memory import DeviceBlock, Event, PinnedArray
from bifocus.edge.small_tensors import SmallTensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bifocus.edge.cuda_graph import Graph
    from bifocus.records import UInt8Image


class Slot:
    """Buffers of one window in flight, and their marks.

    `sources` says where each input is uploaded from, `held` keeps alive what was lent.
    """

    def __init__(
        self,
        inputs: dict[str, PinnedArray],
        output: PinnedArray,
        input_blocks: dict[str, DeviceBlock],
        output_block: DeviceBlock | None,
        numbers: list[SmallTensor],
        uploaded: Event,
        computed: Event,
        done: Event,
    ) -> None:
        self.inputs = inputs
        self.output = output
        self.input_blocks = input_blocks
        self.output_block = output_block
        self.numbers = numbers
        self.uploaded = uploaded
        self.computed = computed
        self.done = done
        self.graph: Graph | None = None
        self.sources: dict[str, PinnedArray] = dict(inputs)
        self.held: Mapping[str, UInt8Image] | None = None

    def addresses(self, output_name: str) -> dict[str, int]:
        """Return where the engine finds each tensor."""
        found = {
            name: (
                self.input_blocks[name].address
                if self.input_blocks
                else pinned.device_address
            )
            for name, pinned in self.inputs.items()
        }
        block = self.output_block
        found[output_name] = block.address if block else self.output.device_address
        found |= {tensor.name: tensor.address for tensor in self.numbers}
        return found
