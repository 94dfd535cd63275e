"""Patches of open stores as batches: random crops, turns and mirrorings, images alike.

Images are float32 tensors (B, 3, H, W) in 0..1 under the names that networks use:
minus, plus, physics, truth, and by sharpness: sharper, other. The physics image has its
fraction of a level back.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bifocus.errors import ConfigError
from bifocus.model.pair_spec import Imaging, PairSpec, pair_spec_from_json
from bifocus.model.patch_store import IMAGE_NAMES, PatchStore, open_store
from bifocus.model.train_config import TrainConfig
from bifocus.tone import NO_REMAINDER, REMAINDER_STEPS

Batch = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchIndex:
    """Where one finished patch lies, and what is known of it."""

    store: int
    number: int
    slide: str
    is_plus_sharper: bool
    spec: PairSpec

    @property
    def imaging(self) -> Imaging:
        """The image formation code it was made by."""
        return self.spec.imaging


class PatchSet:
    """Finished patches of one or more stores; `refresh` takes in those made since.

    Parameters
    ----------
    folders
        Stores of one patch size or several; crops must fit the smallest.
    keep_slides, drop_slides
        If given, only patches of these slides, or of all others.
    """

    def __init__(
        self,
        folders: tuple[Path, ...],
        *,
        keep_slides: frozenset[str] | None = None,
        drop_slides: frozenset[str] = frozenset(),
    ) -> None:
        self.stores: list[PatchStore] = [open_store(folder) for folder in folders]
        self.smallest_px = min(store.request.patch_px for store in self.stores)
        self._keep = keep_slides
        self._drop = drop_slides
        self.patches: list[PatchIndex] = []
        self.refresh()

    def refresh(self) -> None:
        """Read again which patches are finished."""
        self.patches = [
            patch
            for number, store in enumerate(self.stores)
            for patch in _read_index(number, store)
            if patch.slide not in self._drop
            and (self._keep is None or patch.slide in self._keep)
        ]
        if not self.patches:
            names = ", ".join(str(store.folder) for store in self.stores)
            msg = f"no finished patch in {names}; render some with patch_store first"
            raise ConfigError(msg)

    @property
    def slides(self) -> frozenset[str]:
        """The slides of all patches."""
        return frozenset(patch.slide for patch in self.patches)

    @property
    def data_hashes(self) -> list[str]:
        """The hash of the tissue of each store."""
        return [store.data_hash for store in self.stores]

    def draw_batch(
        self,
        rng: np.random.Generator,
        *,
        count: int,
        crop_px: int,
        is_augmented: bool = True,
    ) -> Batch:
        """Draw patches with replacement, cut at random, turned and mirrored.

        Returns
        -------
        dict
            Each image (count, 3, crop_px, crop_px); all images of a patch are cut and
            turned alike.
        """
        if crop_px > self.smallest_px:
            msg = f"crop_px {crop_px} exceeds the patches' {self.smallest_px} px"
            raise ConfigError(msg)
        samples = []
        for _ in range(count):
            patch = self.patches[rng.integers(len(self.patches))]
            side_px = self.stores[patch.store].request.patch_px
            top, left = rng.integers(side_px - crop_px + 1, size=2)
            cut = (slice(top, top + crop_px), slice(left, left + crop_px))
            turn = int(rng.integers(8)) if is_augmented else 0
            samples.append(self._read(patch, cut, turn))
        return _stack(samples)

    def read_whole(self, patches: list[PatchIndex]) -> Batch:
        """Return whole patches of one size as a batch."""
        everything = (slice(None), slice(None))
        return _stack([self._read(patch, everything, 0) for patch in patches])

    def _read(
        self, patch: PatchIndex, cut: tuple[slice, slice], turn: int
    ) -> dict[str, npt.NDArray[np.uint8]]:
        images = {}
        for name in IMAGE_NAMES:
            pixels = self.stores[patch.store].images[name][patch.number][cut]
            pixels = np.rot90(pixels, turn % 4)
            images[name] = pixels[:, ::-1] if turn >= 4 else pixels
        ordered = ("plus", "minus") if patch.is_plus_sharper else ("minus", "plus")
        images["sharper"], images["other"] = (images[name] for name in ordered)
        return images


def open_patch_sets(config: TrainConfig) -> tuple[PatchSet, PatchSet]:
    """Open the patches for training and for validation; no slide is in both.

    Raises
    ------
    ConfigError
        If a store is missing or empty, crops do not fit, or slides are on both sides.
    """
    if config.validation_stores:
        train = PatchSet(config.train_stores)
        validation = PatchSet(config.validation_stores)
        shared = train.slides & validation.slides
        if shared:
            msg = f"slides are in both training and validation: {sorted(shared)[:3]}"
            raise ConfigError(msg)
    else:
        everything = PatchSet(config.train_stores)
        slides = np.array(sorted(everything.slides))
        np.random.default_rng(config.seed).shuffle(slides)
        count = max(1, round(config.validation_share * slides.size))
        if count >= slides.size:
            msg = f"{slides.size} slides cannot be split into training and validation"
            raise ConfigError(msg)
        held = frozenset(slides[:count].tolist())
        train = PatchSet(config.train_stores, drop_slides=held)
        validation = PatchSet(config.train_stores, keep_slides=held)
    if config.crop_px > train.smallest_px:
        msg = f"crop_px {config.crop_px} exceeds the patches' {train.smallest_px} px"
        raise ConfigError(msg)
    return train, validation


def _read_index(number: int, store: PatchStore) -> list[PatchIndex]:
    records = store.read_records()
    return [
        PatchIndex(
            store=number,
            number=int(i),
            slide=records[int(i)]["slide"],
            is_plus_sharper=records[int(i)]["is_plus_sharper"],
            spec=pair_spec_from_json(records[int(i)]["spec"]),
        )
        for i in store.read_finished()
    ]


def _stack(samples: list[dict[str, npt.NDArray[np.uint8]]]) -> Batch:
    batch = {}
    for name in samples[0]:
        stacked = np.stack([sample[name] for sample in samples])
        tensor = torch.from_numpy(stacked).permute(0, 3, 1, 2)
        batch[name] = tensor.to(torch.float32).contiguous()
    fraction = batch.pop("remainder").sub_(NO_REMAINDER).div_(REMAINDER_STEPS)
    batch["physics"].add_(fraction)
    return {name: levels.div_(255) for name, levels in batch.items()}
