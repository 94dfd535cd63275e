"""Evaluation: its numbers on a set made by hand, its files, its frozen pairs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bifocus.errors import ConfigError, EngineError, SlideFileError
from bifocus.focal_offset import PairOptics
from bifocus.model.classical import fuse_sharper
from bifocus.model.evaluate import REFERENCE, evaluate
from bifocus.model.evaluation_optics import EvaluationOptics, expose, render_planes
from bifocus.model.evaluation_pair import EvaluationPair, Method, PairList
from bifocus.model.evaluation_run import (
    EvaluationRequest,
    measure_cost,
    run_compare,
    run_evaluate,
    text_report,
)
from bifocus.model.evaluation_set import (
    CONDITIONS,
    HELD_OUT,
    JoinedPairs,
    Texture,
    default_textures,
    folder_textures,
    frozen_set,
    grid_set,
    held_out_textures,
    procedural_textures,
)
from bifocus.model.metrics import psnr_db
from bifocus.model.result_files import load_results, save_results
from bifocus.model.results_page import main
from bifocus.model.texture_files import list_textures
from bifocus.optics import Objective
from bifocus.transfer import Light, compute_transfer
from tests.imaging import (
    FOREIGN,
    Scope,
    render_incoherent,
    render_partially_coherent,
)
from tests.tissue import procedural_tissue

Float64 = npt.NDArray[np.float64]


def return_truth(
    pair: EvaluationPair,
) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return pair.truth


@lru_cache(maxsize=1)
def some_pairs() -> PairList:
    textures = procedural_textures(3, side=200)
    return PairList(pairs=list(frozen_set(textures, 4, tile_px=128)))


@pytest.fixture(autouse=True)
def _no_real_slides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Quick runs show procedural tissue, whether or not there is real tissue."""

    def nothing() -> Path:
        raise ConfigError(f"no tissue in {tmp_path}")

    monkeypatch.delenv("BIFOCUS_DATA", raising=False)
    monkeypatch.setattr("bifocus.model.evaluation_set.find_data_dir", nothing)


def quick_request(**models: Method) -> EvaluationRequest:
    return EvaluationRequest(
        models=models,
        is_quick=True,
        has_baselines=False,
        pairs_per_condition=2,
        tile_px=96,
    )


def test_the_summary_has_the_promised_keys_and_numbers() -> None:
    methods = {REFERENCE: fuse_sharper, "truth": return_truth}
    document = evaluate(methods, some_pairs(), seed=1).to_document()
    best = document["models"]["truth"]
    promised = {
        *("all", "non_identity", "identity", "p10", "harm_rate", "gain_by_bin"),
        *("offset_mae_um", "ssim", "counts", "interval", "reblur_ratio"),
    }
    assert promised <= set(best)
    assert best["all"] == pytest.approx(10 * np.log10(12 * 255**2))
    assert best["ssim"] == pytest.approx(1)
    assert best["harm_rate"] == 0
    assert best["counts"]["all"] == 8
    assert best["counts"]["slides"] == 3
    assert set(best["by_source"]) == {"partially coherent", "incoherent relief"}
    reference = document["models"][REFERENCE]
    assert reference["gain_db"] == 0
    assert best["gain_db"] == pytest.approx(best["all"] - reference["all"])
    cells = {row["model"]: row for row in document["cells"]}
    assert cells["truth"]["mean_abs_error"] == 0
    json.dumps(document, allow_nan=False)


def test_offsets_that_are_told_are_judged() -> None:
    def tell(pair: EvaluationPair) -> float:
        return pair.offset_um + 0.25

    document = evaluate(
        {REFERENCE: fuse_sharper},
        some_pairs(),
        seed=1,
        offset_meters={REFERENCE: tell},
    ).to_document()
    assert document["models"][REFERENCE]["offset_mae_um"] == pytest.approx(0.25)


def test_an_empty_source_or_a_missing_reference_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no pair"):
        evaluate({REFERENCE: fuse_sharper}, PairList(pairs=[]), seed=1)
    with pytest.raises(ConfigError, match="sharper shot"):
        evaluate({"truth": return_truth}, some_pairs(), seed=1)


def test_a_method_that_returns_no_picture_of_the_pair_is_named() -> None:
    methods: dict[str, Method] = {
        REFERENCE: fuse_sharper,
        "cut": lambda pair: pair.truth[1:],
    }
    with pytest.raises(EngineError, match="cut returned"):
        evaluate(methods, some_pairs(), seed=1)


def test_the_frozen_set_is_the_same_each_time() -> None:
    again = list(frozen_set(procedural_textures(3, side=200), 4, tile_px=128))
    for one, other in zip(some_pairs(), again, strict=True):
        np.testing.assert_array_equal(one.minus, other.minus)
        assert one.offset_um == other.offset_um


def test_offsets_of_the_frozen_set_are_those_of_a_normal() -> None:
    part = frozen_set(procedural_textures(1, side=300), 60).parts[0]
    assert np.mean(part.offsets_um) == pytest.approx(0, abs=1e-3)
    assert np.std(part.offsets_um) == pytest.approx(1, abs=0.05)


def test_the_grid_has_every_cell() -> None:
    pairs = grid_set(procedural_textures(1, side=300), pairs_per_cell=2)
    assert len(pairs) == 2 * 3 * 9 * 2


@pytest.mark.parametrize("z_um", [-1.2, 0.4])
def test_light_is_that_of_the_independent_formation(z_um: float) -> None:
    tissue = procedural_tissue(96, 1)
    height_um = np.full((96, 96), z_um)
    scope = FOREIGN
    optics = EvaluationOptics(
        condenser=scope.condenser,
        object_phase_rad=scope.object_phase_rad,
        spherical_waves=scope.spherical_waves,
        coma_waves=scope.coma_waves,
        n_sources=12,
    )
    ours = render_planes(tissue, height_um, [0.0], optics)[0]
    theirs = render_partially_coherent(tissue, z_um, scope)
    # The phase of single precision limits agreement.
    np.testing.assert_allclose(ours, theirs, atol=2e-3)
    plain = replace(optics, condenser=0.0, coma_waves=0.0, spherical_waves=0.0)
    ours = render_planes(tissue, height_um, [0.0], plain)[0]
    theirs = render_incoherent(tissue, z_um, 0.0, Scope())
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def grating_contrast(optics: EvaluationOptics, periods: int, z_um: float) -> Float64:
    """Return the contrast that a weak grating keeps at height z, in each colour."""
    side = 64
    wave = np.cos(2 * np.pi * periods * np.arange(side) / side)
    grating = np.broadcast_to((1 - 0.02 * (1 + wave))[None, :, None], (side, side, 3))
    flat = np.full((side, side), z_um)
    shot = render_planes(grating, flat, [0.0], optics)[0]
    line = np.fft.fft(shot[0], axis=0)[periods].real
    return np.asarray(-2 * line / side / 0.02)


def farthest_from_a_disc(n_sources: int) -> float:
    """Return how far contrast lies from the integral over a whole condenser."""
    light = Light(condenser=0.6, spherical_waves=0.05, pupil="exact")
    optics = EvaluationOptics(
        condenser=0.6, spherical_waves=0.05, n_sources=n_sources, pixel_um=0.25
    )
    errors = []
    for z_um in (0.4, 0.8, 1.5):
        for periods in (3, 7, 12, 18):
            found = grating_contrast(optics, periods, z_um)
            frequency_per_um = np.array([periods / (64 * optics.pixel_um)])
            for colour, wavelength_um in enumerate(optics.wavelengths_um):
                objective = Objective(na=optics.na, wavelength_um=wavelength_um)
                expected = compute_transfer(
                    objective, light, frequency_per_um, np.array([z_um])
                )
                errors.append(abs(found[colour] - expected[0, 0]))
    return float(max(errors))


def test_points_of_the_condenser_stand_for_a_whole_disc() -> None:
    """Second method: the transmission cross coefficient by quadrature."""
    n_sources = CONDITIONS["partially coherent"].n_sources
    assert farthest_from_a_disc(n_sources) < 0.04
    assert farthest_from_a_disc(12) > 0.05  # what sets 1 and 2 had


def test_in_focus_level_tissue_is_its_own_truth() -> None:
    optics = EvaluationOptics()
    tissue, flat = procedural_tissue(96, 1), np.zeros((96, 96))
    shot, truth = render_planes(tissue, flat, [0.0], optics)
    np.testing.assert_array_equal(
        expose(shot, optics, None), expose(truth, optics, None)
    )


def test_no_slide_of_the_set_is_trained_on(data_dir: Path) -> None:
    textures, _ = held_out_textures(data_dir)
    trained = {file.slide for file in list_textures(data_dir, "train")}
    assert "train" not in HELD_OUT
    assert not trained & {texture.slide_id for texture in textures}
    assert len({texture.slide_id for texture in textures}) >= 6


def test_evaluate_saves_what_it_returns(tmp_path: Path) -> None:
    document = run_evaluate(quick_request(truth=return_truth), tmp_path)
    assert load_results(tmp_path / "results.json")["models"].keys() == {
        REFERENCE,
        "physics",
        "physics-joint",
        "truth",
    }
    page = (tmp_path / "results.html").read_text(encoding="utf-8")
    assert "Table III" in page
    assert "data:image/svg+xml" in page
    assert "data:image/png" in page
    lines = (tmp_path / "results.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 4
    assert lines[0].endswith("sharper shot,physics,physics-joint,truth")
    report = text_report(document)
    assert "procedural tissue" in report
    assert "Evaluation optics" in report


def test_the_page_of_results_regenerates_identically(tmp_path: Path) -> None:
    run_evaluate(quick_request(), tmp_path)
    saved, page = tmp_path / "results.json", tmp_path / "results.md"
    assert main([str(saved), str(page)]) == 0
    first = page.read_bytes()
    assert main([str(saved), str(page)]) == 0
    assert page.read_bytes() == first
    assert main([str(saved), str(page), "--check"]) == 0
    page.write_text("typed", encoding="utf-8")
    assert main([str(saved), str(page), "--check"]) == 1


def test_the_grid_is_summed_up_cell_by_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    def small_grid(textures: Sequence[Texture], *, pairs_per_cell: int) -> JoinedPairs:
        assert pairs_per_cell == 2
        return grid_set(
            textures, offsets_um=(0.0, 0.5), half_spacings_um=(0.5,), pairs_per_cell=1
        )

    monkeypatch.setattr("bifocus.model.evaluation_run.grid_set", small_grid)
    request = replace(quick_request(), has_grid=True, pairs_per_condition=1)
    document = run_evaluate(request)
    assert len(document["grid"]) == 6  # three methods, two conditions
    cells = document["grid"][0]["cells"]
    assert [cell["offset_um"] for cell in cells] == [0.0, 0.5]
    assert cells[1]["psnr_db"] > cells[0]["psnr_db"]  # the identity cell
    assert "Grid, PSNR" in text_report(document)


def test_compare_adds_costs(tmp_path: Path) -> None:
    document = run_compare(quick_request(), tmp_path, tile_px=(128, 160))
    assert document["costs"]["physics"]["cpu_s"] > 0
    assert document["costs"]["physics"]["params"] is None
    assert "Quality beside cost" in text_report(document)


def test_cost_of_a_method_that_takes_memory() -> None:
    class Greedy:
        def __call__(
            self, pair: EvaluationPair
        ) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
            block = np.ones((64 if pair.truth.shape[0] > 224 else 1, 1 << 20))
            return pair.truth if block[0, 0] else pair.minus

        def params_and_gmac(self, height_px: int, width_px: int) -> tuple[int, float]:
            return 7, height_px * width_px / 1e9

    cost = measure_cost(Greedy(), (256, 256))
    assert cost.params == 7
    assert cost.gmac == pytest.approx(256**2 / 1e9)
    if cost.peak_mb is not None:  # Linux only
        assert cost.peak_mb > 400


def test_a_model_named_like_a_baseline_is_refused() -> None:
    with pytest.raises(ConfigError, match="physics"):
        run_evaluate(quick_request(physics=return_truth))


def test_pictures_of_ones_own_are_taken(tmp_path: Path) -> None:
    folder = tmp_path / "slide7"
    folder.mkdir()
    tissue = np.rint(255 * procedural_tissue(300, 1)).astype(np.uint8)
    Image.fromarray(tissue).save(folder / "a.png")
    request = replace(quick_request(), data=tmp_path, pairs_per_condition=1)
    document = run_evaluate(request)
    assert {pair["slide"] for pair in document["pairs"]} == {"slide7"}
    with pytest.raises(ConfigError, match="no PNG"):
        folder_textures(tmp_path / "absent")


def test_z_stacks_are_evaluated_and_skipped_files_named(tmp_path: Path) -> None:
    folder = tmp_path / "s1" / "field"
    folder.mkdir(parents=True)
    tissue, optics = procedural_tissue(96, 1), EvaluationOptics()
    planes_um = [-1.0, -0.5, 0.0, 0.5, 1.0]
    light = render_planes(tissue, np.zeros((96, 96)), planes_um, optics)
    for z_um, plane in zip(planes_um, light[:-1], strict=True):
        Image.fromarray(expose(plane, optics, None)).save(folder / f"z{z_um}um.png")
    (folder / "z2um.png").write_text("no picture")
    request = EvaluationRequest(
        data=tmp_path,
        data_format="zstack",
        has_baselines=False,
        optics=PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=0.5),
    )
    document = run_evaluate(request)
    assert len(document["skipped"]) == 1
    assert "z2um.png" in document["skipped"][0]
    assert document["sources"] == [tmp_path.name]


def test_results_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    document = evaluate({REFERENCE: fuse_sharper}, some_pairs(), seed=1).to_document()
    blocked = tmp_path / "file"
    blocked.write_text("x", encoding="utf-8")
    with pytest.raises(SlideFileError, match="cannot make the folder"):
        save_results(blocked / "results", document)
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        load_results(blocked)
    other = tmp_path / "other.json"
    other.write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="not the results"):
        load_results(other)
    assert main([str(other), str(tmp_path / "page.md")]) == 2


def test_procedural_tissue_is_said_to_be_such() -> None:
    textures, origin = default_textures()
    assert "procedural" in origin
    assert len(textures) == 8


def test_pairs_come_one_at_a_time() -> None:
    class Counting:
        n_made = 0

        def __iter__(self) -> Iterator[EvaluationPair]:
            for pair in some_pairs():
                self.n_made += 1
                yield pair

    source = Counting()
    first = next(iter(source))
    assert source.n_made == 1
    assert psnr_db(first.truth, first.truth) > 58
