"""Stores: repeatable, resumable, checked on opening; the camera; batches alike."""

import dataclasses
import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bifocus.errors import ConfigError, EngineError
from bifocus.model import incoherent, patch_store
from bifocus.model.patch_batches import PatchSet
from bifocus.model.patch_store import (
    IMAGE_NAMES,
    StoreRequest,
    build_store,
    open_store,
    render_patch,
)
from bifocus.model.shot_camera import shift_periodic, store_pair
from bifocus.model.texture_files import list_textures
from bifocus.physics_fusion import fuse_two_shots
from bifocus.tone import NO_REMAINDER, REMAINDER_STEPS
from tests.model.imaging_specs import plain_spec, random_texture
from tests.model.tissue_folder import make_tissue_folder

REQUEST = StoreRequest(n=3, patch_px=48, margin_px=24, per_instrument=2, seed=4)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tissue")
    make_tissue_folder(folder)
    return folder


@pytest.fixture(scope="module")
def store_folder(tissue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "train"
    build_store(folder, REQUEST, data_dir=tissue)
    return folder


def test_store_holds_what_it_says(store_folder: Path, tissue: Path) -> None:
    store = open_store(store_folder)
    assert store.read_finished().tolist() == [0, 1, 2]
    specs = store.read_specs()
    assert sorted(specs) == [0, 1, 2]
    assert specs[0].nominal == specs[1].nominal != specs[2].nominal
    files = list_textures(tissue, "train")
    patch = render_patch(REQUEST, 2, files)
    for name in IMAGE_NAMES:
        np.testing.assert_array_equal(store.images[name][2], getattr(patch, name))
    assert patch.spec == specs[2]
    assert store.read_records()[2]["slide"] == patch.slide


def test_a_patch_with_its_border_is_fused_as_a_tile_of_its_size(tissue: Path) -> None:
    """Same light, same shots; the physics image knows no more than the patch shows."""
    files = list_textures(tissue, "train")
    inner = dataclasses.replace(REQUEST, patch_px=64)
    whole = dataclasses.replace(inner, has_border=True)
    without, patch = (render_patch(request, 0, files) for request in (inner, whole))
    for name in ("minus", "plus", "truth"):
        np.testing.assert_array_equal(getattr(without, name), getattr(patch, name))
    expected = fuse_two_shots(
        patch.minus,
        patch.plus,
        patch.spec.nominal,
        tone_curve=patch.spec.tone_curve,
        colours="together",
    )
    np.testing.assert_array_equal(patch.physics, expected.pixels)
    np.testing.assert_array_equal(patch.remainder, expected.remainder())
    assert (patch.physics != without.physics).any()


def test_an_interrupted_store_continues(
    store_folder: Path,
    tissue: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    render = patch_store.render_patch
    calls = 0

    def stops_in_the_second_group(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return render(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(patch_store, "render_patch", stops_in_the_second_group)
    with pytest.raises(KeyboardInterrupt):
        build_store(tmp_path / "s", REQUEST, data_dir=tissue)
    assert open_store(tmp_path / "s").read_finished().tolist() == [0, 1]
    with (tmp_path / "s" / "specs.jsonl").open("a") as stream:
        stream.write('{"number": 2, "cut o')
    continued = build_store(tmp_path / "s", REQUEST, data_dir=tissue)
    assert calls == 4
    whole = open_store(store_folder)
    for name in IMAGE_NAMES:
        np.testing.assert_array_equal(whole.images[name], continued.images[name])
    assert continued.read_specs() == whole.read_specs()


def test_another_request_is_refused(store_folder: Path, tissue: Path) -> None:
    with pytest.raises(ConfigError, match="another request"):
        build_store(store_folder, dataclasses.replace(REQUEST, seed=5), data_dir=tissue)


def test_a_full_disk_is_named(
    tissue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np.lib.format, "open_memmap", full)
    with pytest.raises(EngineError, match="No space left on device"):
        build_store(tmp_path / "s", REQUEST, data_dir=tissue)


def test_foreign_folders_are_refused(tmp_path: Path, store_folder: Path) -> None:
    with pytest.raises(ConfigError, match="not a store"):
        open_store(tmp_path)
    (tmp_path / "store.json").write_text("{}")
    with pytest.raises(ConfigError, match="not a store"):
        open_store(tmp_path)
    head = json.loads((store_folder / "store.json").read_text())
    head["request"]["n"] = 7
    (tmp_path / "store.json").write_text(json.dumps(head))
    for name in IMAGE_NAMES:
        content = (store_folder / f"{name}.npy").read_bytes()
        (tmp_path / f"{name}.npy").write_bytes(content)
    with pytest.raises(ConfigError, match=r"minus\.npy"):
        open_store(tmp_path)


@pytest.mark.parametrize(
    "bad", [{"n": 0}, {"mix": "no such"}, {"margin_px": 4}, {"has_border": True}]
)
def test_bad_requests(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(REQUEST, **bad)  # type: ignore[arg-type]


def test_command_line_reports_errors(tmp_path: Path) -> None:
    assert patch_store.main([str(tmp_path), "--n", "0"]) == 2


def test_camera_keeps_the_sharper_shot_on_the_grid_of_the_truth() -> None:
    spec = plain_spec(offset_um=0.75, shift_px=(0.4, -0.3), gain=1.03, full_well_e=1e9)
    rendered = incoherent.render(random_texture(), spec)
    pair = store_pair(rendered, spec)
    assert pair.is_plus_sharper
    error = pair.plus.astype(int) - pair.truth.astype(int)
    assert np.abs(error).max() <= 1  # rounding, and noise of a vast well
    # The other shot is brighter by its drift.
    brightness = pair.minus.mean() / (255 * 0.92 * rendered.minus.mean())
    assert brightness == pytest.approx(1.03, abs=2e-3)


def test_camera_noise_has_the_variance_of_its_well() -> None:
    glass = np.full((128, 128, 3), 1.0, dtype=np.float32)
    light = incoherent.RenderedPair(minus=glass, plus=glass, truth=glass)
    spec = plain_spec(full_well_e=8000.0)
    pair = store_pair(light, spec)
    # Shot and read noise, and the rounding to whole levels.
    variance = (0.92 * 8000 + 64) * (255 / 8000) ** 2 + 1 / 12
    assert np.var(pair.minus.astype(float)) == pytest.approx(variance, rel=0.03)


def test_jpeg_changes_shots_and_not_the_truth() -> None:
    rendered = incoherent.render(random_texture(), plain_spec())
    plain = store_pair(rendered, plain_spec())
    stored = store_pair(rendered, plain_spec(jpeg_quality=80))
    assert not np.array_equal(plain.minus, stored.minus)
    np.testing.assert_array_equal(plain.truth, stored.truth)
    assert np.abs(plain.minus.astype(int) - stored.minus.astype(int)).mean() < 8


def test_shift_by_a_whole_pixel_is_a_roll() -> None:
    image = random_texture(32)
    moved = shift_periodic(image, (1.0, -2.0))
    np.testing.assert_allclose(moved, np.roll(image, (1, -2), (0, 1)), atol=1e-5)


def test_batches_cut_and_turn_all_images_alike(store_folder: Path) -> None:
    store = open_store(store_folder)
    # Make the images equal but for a constant: any crop must stay so.
    for name in ("minus", "plus", "physics"):
        store.images[name] = store.images["truth"]
    quarter = np.uint8(NO_REMAINDER + REMAINDER_STEPS // 4)
    store.images["remainder"] = np.full_like(store.images["truth"], quarter)
    patches = PatchSet((store_folder,))
    patches.stores = [store]
    batch = patches.draw_batch(np.random.default_rng(0), count=5, crop_px=32)
    assert batch["truth"].shape == (5, 3, 32, 32)
    for name in ("minus", "plus", "sharper", "other"):
        assert torch.equal(batch[name], batch["truth"])
    more = 255 * (batch["physics"] - batch["truth"])
    torch.testing.assert_close(more, torch.full_like(more, 0.25), atol=1e-4, rtol=0)
    again = patches.draw_batch(np.random.default_rng(0), count=5, crop_px=32)
    assert torch.equal(again["truth"], batch["truth"])
    with pytest.raises(ConfigError, match="crop_px"):
        patches.draw_batch(np.random.default_rng(0), count=1, crop_px=64)


def test_sharper_follows_the_record(store_folder: Path) -> None:
    patches = PatchSet((store_folder,))
    batch = patches.read_whole(patches.patches)
    for number, patch in enumerate(patches.patches):
        name = "plus" if patch.is_plus_sharper else "minus"
        assert torch.equal(batch["sharper"][number], batch[name][number])
