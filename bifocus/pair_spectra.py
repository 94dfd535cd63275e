"""Local spectra of a two-shot pair, and their radial statistics.

Both shots are cut into overlapping blocks. Under even aberrations the OTF is real and
depends on the radius only, so three radial profiles per block and colour hold all that
a Gaussian model can know about defocus: |Y-|^2, |Y+|^2 and Re(Y- conj(Y+)).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.sparse

from bifocus.records import FloatImage

Complex64 = npt.NDArray[np.complex64]
Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]


# Three-point transform of a Hann window.
_HANN = np.array([-0.25, 0.5, -0.25], dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLayout:
    """How an image is cut into blocks that overlap and add up to one again.

    Each block has a `taper_px` rim where the data fade to nothing (so that the FFT sees
    no edge) and, inside it, a `ramp_px` zone where it cross-fades with its neighbour.
    The result never uses the tapered rim.
    """

    block_px: int
    taper_px: int
    ramp_px: int

    @property
    def hop_px(self) -> int:
        """Distance between neighbouring blocks."""
        return self.block_px - 2 * self.taper_px - self.ramp_px

    @property
    def margin_px(self) -> int:
        """How far the first block reaches beyond the image."""
        return (self.block_px - self.hop_px) // 2

    def counts(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the number of blocks down and across for an image of `shape`."""
        return -(-shape[0] // self.hop_px), -(-shape[1] // self.hop_px)


# 24 px of taper cover the blur of 5 um defocus at NA 0.75 and 0.25 um/px (22 px).
LARGE_BLOCKS = BlockLayout(block_px=256, taper_px=24, ramp_px=32)
SMALL_BLOCKS = BlockLayout(block_px=128, taper_px=16, ramp_px=16)


def layout_for(shape: tuple[int, int]) -> BlockLayout:
    """Return the block layout that suits an image of `shape`."""
    return LARGE_BLOCKS if min(shape) >= 200 else SMALL_BLOCKS


@dataclass(frozen=True, slots=True, kw_only=True)
class RadialBins:
    """Radial binning of the `rfft2` half plane of one block.

    Attributes
    ----------
    index
        Bin of each half-plane coefficient, shape (block, block // 2 + 1).
    count
        Independent real numbers in each bin (conjugates counted), shape (bins,).
    frequency
        Mean radius of each bin in cycles per pixel, shape (bins,).
    """

    index: Int32
    count: Float32
    frequency: Float32
    doubling: Float32

    def sums(self, power: Float32) -> Float32:
        """Return the sum of a half-plane quantity over each bin."""
        total = np.bincount(
            self.index.ravel(), (power * self.doubling).ravel(), self.count.size
        )
        return total.astype(np.float32)


@lru_cache(maxsize=4)
def radial_bins(block_px: int) -> RadialBins:
    """Return the bins for blocks of `block_px`, about 1.4 coefficients wide."""
    rows = np.fft.fftfreq(block_px)[:, None]
    columns = np.fft.rfftfreq(block_px)[None, :]
    radius = np.hypot(rows, columns)
    n_bins = block_px // 2
    width = np.sqrt(0.5) / n_bins
    index = np.minimum(radius / width, n_bins - 1).astype(np.int32)
    doubling = np.full(radius.shape, 2.0, dtype=np.float32)
    doubling[:, 0] = 1.0  # these two columns hold their own conjugates
    if block_px % 2 == 0:
        doubling[:, -1] = 1.0
    count = np.bincount(index.ravel(), doubling.ravel(), n_bins)
    total = np.bincount(index.ravel(), (doubling * radius).ravel(), n_bins)
    frequency = total / np.maximum(count, 1)
    return RadialBins(
        index=index,
        count=count.astype(np.float32),
        frequency=frequency.astype(np.float32),
        doubling=doubling,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSpectra:
    """Spectra and radial statistics of all blocks of a pair.

    Attributes
    ----------
    spectra
        Shape (2, blocks, colours, block, block // 2 + 1); [0] is the minus shot.
    means
        Window-weighted mean removed from each block, shape (2, blocks, colours).
    statistics
        Radial sums of |Y-|^2, |Y+|^2, Re(Y- conj Y+), per pixel of window energy,
        shape (3, blocks, colours, bins).
    grid, shape
        Blocks (down, across), and the image's (rows, columns).
    """

    spectra: Complex64
    means: Float32
    statistics: Float32
    grid: tuple[int, int]
    shape: tuple[int, int]
    layout: BlockLayout


def spectra_shape(shape: tuple[int, int]) -> tuple[int, ...]:
    """Return the shape of the spectra of a pair of colour shots of `shape`."""
    layout = layout_for(shape)
    down, across = layout.counts(shape)
    return 2, down * across, 3, layout.block_px, layout.block_px // 2 + 1


def compute_spectra(
    minus: FloatImage, plus: FloatImage, out: Complex64 | None = None
) -> PairSpectra:
    """Cut both shots into blocks and transform them.

    Parameters
    ----------
    minus, plus
        Linear light, float32, (rows, columns, 3), any scale; registered to each other.
    out
        Memory for the spectra, of `spectra_shape`; by default new.

    Returns
    -------
    PairSpectra
        Statistics are left at zero; `with_statistics` fills them.
    """
    shape = (minus.shape[0], minus.shape[1])
    layout = layout_for(shape)
    edge = taper_edge(layout).astype(np.float32)
    window = _taper_window(layout)
    grid = layout.counts(shape)
    size = layout.block_px
    n_blocks, colours = grid[0] * grid[1], minus.shape[2]
    spectra = out
    if spectra is None:
        spectra = np.empty(spectra_shape(shape), dtype=np.complex64)
    means = np.empty((2, n_blocks, colours), dtype=np.float32)
    tapered = np.empty((colours, size, size), dtype=np.float32)
    for shot, image in enumerate((minus, plus)):
        for number, block in enumerate(_blocks(image, layout, grid)):
            mean = (block @ edge) @ edge / window.sum()
            np.subtract(block, mean[:, None, None], out=tapered)
            tapered *= window
            means[shot, number] = mean
            spectra[shot, number] = scipy.fft.rfft2(tapered)
    statistics = np.zeros((3, n_blocks, colours, size // 2), dtype=np.float32)
    return PairSpectra(
        spectra=spectra,
        means=means,
        statistics=statistics,
        grid=grid,
        shape=shape,
        layout=layout,
    )


def fill_statistics(pair: PairSpectra) -> None:
    """Compute the radial statistics from the spectra, in place.

    The spectra are convolved with the three-point transform of a Hann window first:
    without it the strong low frequencies leak through the short taper into the weak
    high ones and bias the offset by a tenth of a micrometre.
    """
    ring_sums = _ring_sums(pair.layout.block_px)
    energy = statistics_energy(pair.layout)
    product = np.empty((2, *pair.spectra.shape[-2:]), dtype=np.float32)
    product = product.reshape(pair.layout.block_px, -1)
    for number in range(pair.spectra.shape[1]):
        for colour in range(pair.spectra.shape[2]):
            minus = _hann_filtered(pair.spectra[0, number, colour])
            plus = _hann_filtered(pair.spectra[1, number, colour])
            for row, (a, b) in enumerate(((minus, minus), (plus, plus), (minus, plus))):
                np.multiply(a, b, out=product)
                sums = ring_sums @ _folded(product).ravel()
                pair.statistics[row, number, colour] = sums / energy


def _hann_filtered(spectrum: Complex64) -> Float32:
    """Return the half-plane spectrum of the block times a Hann window.

    As float32, (size, 2 * columns): real and imaginary parts beside each other.
    """
    size, columns = spectrum.shape
    wrapped = np.empty((size + 2, columns + 2), dtype=np.complex64)
    inner = wrapped[1:-1]
    inner[:, 1:-1] = spectrum
    # Beyond the half plane lie the conjugates of the mirrored rows.
    for outside, inside in ((0, 1), (-1, -2)):
        column = spectrum[:, inside].conj()
        inner[0, outside], inner[1:, outside] = column[0], column[:0:-1]
    wrapped[0], wrapped[-1] = wrapped[-2], wrapped[1]
    filtered = cv2.sepFilter2D(
        wrapped.view(np.float32).reshape(size + 2, columns + 2, 2), -1, _HANN, _HANN
    )
    middle = np.ascontiguousarray(filtered[1:-1, 1:-1], dtype=np.float32)
    return middle.reshape(size, 2 * columns)


def _folded(products: Float32) -> Float32:
    """Add rows -k to rows k, which lie in the same rings: (size / 2 + 1, columns)."""
    half = products.shape[0] // 2
    folded = products[: half + 1]
    folded[1:half] += products[:half:-1]
    return folded


@lru_cache(maxsize=4)
def _ring_sums(block_px: int) -> scipy.sparse.csr_array:
    """Return the matrix that sums folded products over rings."""
    bins = radial_bins(block_px)
    half = block_px // 2 + 1
    ring = np.repeat(bins.index[:half], 2, axis=1).ravel()
    weight = np.repeat(bins.doubling[:half], 2, axis=1).ravel()
    place = np.arange(ring.size)
    shape = (bins.count.size, ring.size)
    return scipy.sparse.csr_array((weight, (ring, place)), shape=shape)


def assemble(blocks: Iterable[Float32], pair: PairSpectra) -> FloatImage:
    """Cross-fade filtered blocks into one image.

    Parameters
    ----------
    blocks
        One after the other, each of shape (colours, block, block).
    pair
        The layout they came from.

    Returns
    -------
    ndarray of float32
        Shape (rows, columns, colours), plane by plane in memory.
    """
    layout, (down, across) = pair.layout, pair.grid
    hop, size, margin = layout.hop_px, layout.block_px, layout.margin_px
    used = slice(layout.taper_px, size - layout.taper_px)
    fade = _fade_window(layout)[used, used]
    canvas = np.zeros(
        (pair.means.shape[2], down * hop + 2 * margin, across * hop + 2 * margin),
        dtype=np.float32,
    )
    for number, block in enumerate(blocks):
        top, left = (number // across) * hop, (number % across) * hop
        place = canvas[:, top : top + size, left : left + size]
        place[:, used, used] += block[:, used, used] * fade
    rows, columns = pair.shape
    cut = canvas[:, margin : margin + rows, margin : margin + columns]
    # Blocks add up to one but at the image's border, where a ramp has no partner.
    for axis, (count, length) in enumerate(zip(pair.grid, pair.shape, strict=True), 1):
        weight = _total_fade(layout, count)[margin : margin + length]
        for place in np.flatnonzero(np.abs(weight - 1) > 1e-6):
            cut[(slice(None),) * axis + (place,)] /= weight[place]
    return cut.transpose(1, 2, 0)


@lru_cache(maxsize=4)
def _wide_rings(block_px: int) -> UInt8:
    """Return the ring of each real number of the upper half of a half plane."""
    index = radial_bins(block_px).index[: block_px // 2 + 1]
    return np.repeat(index, 2, axis=1).astype(np.uint8)


def filter_block(spectra: Sequence[Complex64] | Complex64, gains: Float32) -> Complex64:
    """Return the sum of some spectra of one block, each times round gains.

    Parameters
    ----------
    spectra
        Each (block, block // 2 + 1): those of both shots, for example.
    gains
        Gain of each ring, shape (spectra, bins).
    """
    size = spectra[0].shape[0]
    half = size // 2 + 1
    rings = _wide_rings(size)
    total: Complex64 = np.empty_like(spectra[0])
    upper, lower = np.split(total.view(np.float32), [half])
    table = np.zeros((1, 256), dtype=np.float32)
    for number, one in enumerate(spectra):
        values = one.view(np.float32)
        table[0, : gains.shape[1]] = gains[number]
        # OpenCV looks up and adds products in one pass: half the time of NumPy.
        gain = cv2.LUT(rings, table)
        # Row -k lies in the same rings as row k.
        mirrored = np.ascontiguousarray(gain[-2:0:-1])
        if number == 0:
            cv2.multiply(values[:half], gain, dst=upper)
            cv2.multiply(values[half:], mirrored, dst=lower)
        else:
            cv2.accumulateProduct(values[:half], gain, upper)
            cv2.accumulateProduct(values[half:], mirrored, lower)
    return total


@lru_cache(maxsize=4)
def inner_rings(block_px: int) -> tuple[npt.NDArray[np.intp], ...]:
    """Return where a half plane's rings 0 and 1 are, as an index of its array."""
    return np.nonzero(radial_bins(block_px).index < 2)


def cross_power(spectra: Sequence[Complex64], layout: BlockLayout) -> Float32:
    """Return the ring means of Re(first conj second) of three spectra of one block.

    Under a Hann window, as `fill_statistics`; shape (3, bins), in the order of pairs
    (0, 1), (0, 2), (1, 2).
    """
    bins, ring_sums = radial_bins(layout.block_px), _ring_sums(layout.block_px)
    filtered = [_hann_filtered(one) for one in spectra]
    sums = [
        ring_sums @ _folded(filtered[first] * filtered[second]).ravel()
        for first, second in ((0, 1), (0, 2), (1, 2))
    ]
    energy = statistics_energy(layout) * np.maximum(bins.count, 1)
    return np.asarray(np.stack(sums) / energy, dtype=np.float32)


def _total_fade(layout: BlockLayout, count: int) -> Float32:
    """Return the sum of `count` overlapping fade windows along one axis."""
    total = np.zeros(count * layout.hop_px + 2 * layout.margin_px, dtype=np.float32)
    for number in range(count):
        start = number * layout.hop_px
        total[start : start + layout.block_px] += fade_edge(layout)
    return total


def _power(values: Complex64) -> Float32:
    result: Float32 = values.real**2 + values.imag**2
    return result


def _blocks(
    image: FloatImage, layout: BlockLayout, grid: tuple[int, int]
) -> Iterator[Float32]:
    """Yield all blocks, (colours, block, block), over a mirrored border."""
    hop, margin, size = layout.hop_px, layout.margin_px, layout.block_px
    below, right = (
        count * hop + margin - length
        for count, length in zip(grid, image.shape[:2], strict=True)
    )
    padded: Float32 = np.stack(
        [
            cv2.copyMakeBorder(
                np.ascontiguousarray(plane),
                margin,
                below,
                margin,
                right,
                cv2.BORDER_REFLECT,
            )
            for plane in np.moveaxis(image, 2, 0)
        ],
        dtype=np.float32,
    )
    for down, across in np.ndindex(grid):
        top, left = down * hop, across * hop
        yield padded[:, top : top + size, left : left + size]


def _raised_cosine(length: int) -> npt.NDArray[np.float64]:
    rise: npt.NDArray[np.float64] = 0.5 - 0.5 * np.cos(
        np.pi * (np.arange(length) + 0.5) / length
    )
    return rise


@lru_cache(maxsize=4)
def statistics_energy(layout: BlockLayout) -> float:
    """Return the energy of the window under which the statistics are taken."""
    hann = _raised_cosine(layout.block_px // 2)
    edge = np.concatenate([hann, hann[::-1]])
    return float(np.square(_taper_window(layout) * np.outer(edge, edge)).sum())


def taper_edge(layout: BlockLayout) -> npt.NDArray[np.float64]:
    """Return the window that a block is transformed under, along one axis."""
    edge = np.ones(layout.block_px)
    rise = _raised_cosine(layout.taper_px)
    edge[: layout.taper_px], edge[-layout.taper_px :] = rise, rise[::-1]
    return edge


@lru_cache(maxsize=4)
def _taper_window(layout: BlockLayout) -> Float32:
    edge = taper_edge(layout)
    return np.outer(edge, edge).astype(np.float32)


@lru_cache(maxsize=4)
def _fade_window(layout: BlockLayout) -> Float32:
    return np.outer(fade_edge(layout), fade_edge(layout))


@lru_cache(maxsize=4)
def fade_edge(layout: BlockLayout) -> Float32:
    """Return how much a block counts in the result, along one axis: 0 on its rim."""
    edge = np.zeros(layout.block_px, dtype=np.float32)
    start, stop = layout.taper_px, layout.taper_px + layout.ramp_px
    rise = _raised_cosine(layout.ramp_px)
    edge[start:stop], edge[stop:-stop], edge[-stop:-start] = rise, 1.0, rise[::-1]
    return edge
