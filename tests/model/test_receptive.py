"""The receptive radius: the walk against an impulse, and tiles against the whole."""

import pytest
import torch
from torch import Tensor, nn

from bifocus.errors import EngineError
from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.hybrid import HybridNet
from bifocus.model.network_registry import build_network
from bifocus.model.receptive import halo_px, receptive_radius, receptive_reach

NARROW: dict[str, dict[str, object]] = {
    "fast": {"widths": (4, 4)},
    "base": {"widths": (4, 4, 4)},
    "large": {"widths": (4, 4, 4)},
    "base-one-shot": {"widths": (4, 4, 4)},
    "base-late": {"widths": (4, 4, 4)},
    "tsva": {"base": 2},
    "tsva-A": {"base": 2, "reading": "A"},
    "unet": {"base": 2},
    "burst-unet": {"base": 2, "residual": True},
}
# Found twice, by the walk and by the impulse below; the reference's table gives 62 for
# base, and 122 and 118 for the paper's, one alignment to the coarser grids each.
RADII_PX = {
    "fast": 79,
    "base": 67,
    "large": 83,
    "base-one-shot": 67,
    "base-late": 67,
    "tsva": 122,
    "tsva-A": 137,
    "unet": 122,
    "burst-unet": 123,
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _narrow(name: str) -> FusionNetwork:
    return build_network(name.removesuffix("-A"), **NARROW[name])


def _impulse_reach(network: FusionNetwork) -> tuple[int, int]:
    """Return how far before and after an output row sees, by lit rows.

    With positive weights and no biases nothing cancels, so that an output is zero only
    where the lit row is out of sight. One image per alignment to the coarsest grid.
    """
    network = network.double().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.constant_(module.weight, 4 / module.weight[0].numel())
            nn.init.zeros_(module.bias)
    stride, middle = network.stride, 160 // network.stride * network.stride
    lit = torch.zeros(stride, 3, 2 * middle, 32, dtype=torch.float64)
    for i in range(stride):
        lit[i, :, middle + i] = 1
    with torch.no_grad():
        fused = network(*[lit] * len(network.inputs))
    rows = [torch.nonzero(one.abs().sum((0, 2))).flatten() - middle for one in fused]
    before = max(int(seen.max()) - i for i, seen in enumerate(rows))
    after = max(i - int(seen.min()) for i, seen in enumerate(rows))
    return before, after


@pytest.mark.parametrize("name", NARROW)
def test_the_walk_agrees_with_an_impulse(name: str) -> None:
    reach = receptive_reach(_narrow(name))
    assert reach.step_px == 1
    assert (reach.before_px, reach.after_px) == _impulse_reach(_narrow(name))


@pytest.mark.parametrize(("name", "radius_px"), RADII_PX.items())
def test_radius_and_halo(name: str, radius_px: int) -> None:
    network = _narrow(name)
    assert receptive_radius(network) == radius_px
    assert halo_px(network) % network.stride == 0
    assert 0 <= halo_px(network) - radius_px < network.stride


@pytest.mark.parametrize("name", ["base", "tsva"])
def test_tiles_with_a_halo_equal_the_whole(name: str) -> None:
    network = _narrow(name).eval()
    _scale_head(network)
    images = [torch.rand(1, 3, 411, 326) for _ in network.inputs]
    with torch.no_grad():
        whole = network(*images)
        tiled = _fuse_in_tiles(network, images, halo_px(network), core_px=112)
    assert float((whole - images[0]).abs().max()) > 0.05
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-6)


def test_a_halo_below_the_radius_leaves_seams() -> None:
    network = _narrow("base").eval()
    _scale_head(network)
    images = [torch.rand(1, 3, 160, 160) for _ in network.inputs]
    with torch.no_grad():
        tiled = _fuse_in_tiles(network, images, 8, core_px=80)
        assert float((network(*images) - tiled).abs().max()) > 1e-5


def test_an_operation_that_sees_the_whole_picture_is_refused() -> None:
    class GlobalMean(HybridNet):
        def compute(self, images: list[Tensor]) -> Tensor:
            return super().compute(images) * images[0].mean((2, 3), keepdim=True)

    with pytest.raises(EngineError, match="receptive radius"):
        receptive_radius(GlobalMean())


def _scale_head(network: FusionNetwork) -> None:
    """Make the residual as large as a trained one: a tenth of the range."""
    is_hybrid = isinstance(network, HybridNet)
    head = network.get_submodule("decoder.head" if is_hybrid else "head")
    assert isinstance(head, nn.Conv2d)
    nn.init.normal_(head.weight)
    with torch.no_grad():
        spread = network.compute([torch.rand(1, 3, 64, 64) for _ in network.inputs])
        head.weight *= 0.1 / spread.std()


def _fuse_in_tiles(
    network: FusionNetwork, images: list[Tensor], halo: int, *, core_px: int
) -> Tensor:
    fused = torch.zeros_like(images[0])
    height, width = fused.shape[-2:]
    for top in range(0, height, core_px):
        for left in range(0, width, core_px):
            above, beside = max(top - halo, 0), max(left - halo, 0)
            rows = slice(above, min(top + core_px + halo, height))
            columns = slice(beside, min(left + core_px + halo, width))
            tile = network(*(image[..., rows, columns] for image in images))
            core = tile[..., top - above :, left - beside :][..., :core_px, :core_px]
            bottom, right = top + core.shape[-2], left + core.shape[-1]
            fused[..., top:bottom, left:right] = core
    return fused
