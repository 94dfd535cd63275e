"""`bifocus fuse` on pairs that another image formation made; and on bad ones.

The pairs are partially coherent, with aberrations and phase (tests/imaging.py), which
the fusion knows nothing of.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bifocus.records import UInt8Image
from tests.cli.commands import files_at_most, run_cli
from tests.cli.pair_files import HALF_SPACING_UM, describe_optics, write_pairs
from tests.imaging import (
    FOREIGN,
    RenderedPair,
    psnr_db,
    shoot_incoherent,
    shoot_partially_coherent,
)
from tests.tissue import procedural_tissue, real_crops

Float64 = npt.NDArray[np.float64]

SIDE_PX = 224
ENTRY_KEYS = {"offset_um", "sd_um", "quality", "seconds", "model"}


def render(tissue: Float64, number: int) -> RenderedPair:
    """Focus lies 0.5 to 1.1 um away: beyond the bias of unknown optics."""
    rng = np.random.default_rng(number)
    offset_um = float(rng.uniform(0.5, 1.1)) * (-1) ** number
    return shoot_partially_coherent(tissue, offset_um, HALF_SPACING_UM, FOREIGN, rng)


@pytest.fixture(scope="module")
def pairs() -> dict[str, RenderedPair]:
    return {
        f"field {n}": render(procedural_tissue(SIDE_PX, seed=40 + n), n)
        for n in range(4)
    }


@pytest.fixture(scope="module")
def folder(
    pairs: dict[str, RenderedPair], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"), pairs)


@pytest.fixture
def shots(folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return copies of one pair, to be spoiled."""
    paths = (tmp_path / "shot_a.png", tmp_path / "shot_b.png")
    for end, path in zip("ab", paths, strict=True):
        path.write_bytes((folder / f"field 0_{end}.png").read_bytes())
    return paths


def read(path: Path) -> UInt8Image:
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def mean_gain_db(pairs: dict[str, RenderedPair], out: Path) -> float:
    return float(
        np.mean(
            [
                psnr_db(read(out / f"{name}.png"), pair.truth)
                - psnr_db(pair.sharper, pair.truth)
                for name, pair in pairs.items()
            ]
        )
    )


def check_entries(
    report: dict[str, dict[str, dict[str, float]]],
    pairs: dict[str, RenderedPair],
    bias_um: float,
) -> None:
    """Optics that the fusion is not told of shift the focus, by up to `bias_um`."""
    assert set(report["pairs"]) == set(pairs)
    for name, entry in report["pairs"].items():
        assert set(entry) >= ENTRY_KEYS
        assert abs(entry["offset_um"] - pairs[name].offset_um) <= bias_um
        assert entry["offset_um"] * pairs[name].offset_um > 0
        assert 0 < entry["sd_um"] < 0.5
        assert 0 <= entry["quality"] <= 1
        assert 0 < entry["seconds"] < 30


def test_a_folder_of_foreign_pairs_is_improved(
    pairs: dict[str, RenderedPair], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "fused"
    outcome = run_cli("fuse", "--pairs", folder, "-o", out)
    assert (outcome.code, outcome.out) == (0, f"fused 4 pairs into {out}\n")
    assert "4 of 4 pairs\n" in outcome.err
    assert mean_gain_db(pairs, out) > 1
    report = json.loads((out / "fuse.json").read_text())
    assert report["tone_curve"] == "linear"
    assert report["model"] == "base"
    check_entries(report, pairs, bias_um=0.35)
    names = {path.name for path in out.iterdir()}
    assert names == {"fuse.json", *(f"{name}.png" for name in pairs)}
    for name, pair in pairs.items():
        assert read(out / f"{name}.png").shape == pair.truth.shape


def test_pairs_of_real_tissue_are_improved(data_dir: Path, tmp_path: Path) -> None:
    crops = real_crops(data_dir, count=4, size=SIDE_PX, seed=5)
    pairs = {f"real{n}": render(crop, n) for n, crop in enumerate(crops)}
    folder = write_pairs(tmp_path / "in", pairs, tone_curve="linear")
    outcome = run_cli("fuse", "--pairs", folder, "-o", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome.err
    check_entries(outcome.document, pairs, bias_um=0.6)
    assert mean_gain_db(pairs, tmp_path / "out") > 1


def test_an_srgb_folder_is_recognised(tmp_path: Path) -> None:
    pairs = {}
    for number in range(8):
        rng = np.random.default_rng(number)
        tissue = procedural_tissue(128, seed=60 + number)
        offset_um = 0.3 * (number % 5 - 2)
        pairs[f"p{number}"] = shoot_incoherent(
            tissue, offset_um, HALF_SPACING_UM, FOREIGN, rng, "srgb"
        )
    folder = write_pairs(tmp_path / "in", pairs)
    outcome = run_cli("fuse", "--pairs", folder, "-o", tmp_path / "out", "--json")
    assert outcome.document["tone_curve"] == "srgb"
    assert json.loads((tmp_path / "out" / "fuse.json").read_text()) == outcome.document


def test_two_files(
    pairs: dict[str, RenderedPair], shots: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "fused.png"
    outcome = run_cli("fuse", *shots, "-o", out, "--tone-curve", "linear")
    assert outcome.code == 0
    assert outcome.out.startswith(f"fused into {out}; best focus at F +")
    assert "NA 0.75, 0.25 um/px, dD 0.75 um" in outcome.err
    pair = pairs["field 0"]
    gain_db = psnr_db(read(out), pair.truth) - psnr_db(pair.sharper, pair.truth)
    assert gain_db > 0.5


def test_two_files_as_json(shots: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "fused"  # a name without an end is the user's choice
    entry = run_cli("fuse", *shots, "-o", out, "--json").document
    assert set(entry) >= ENTRY_KEYS
    assert entry["offset_um"] > 0
    read(out)


def test_the_options_are_the_optics(shots: tuple[Path, Path], tmp_path: Path) -> None:
    """The same difference of the shots is a longer way where they lie closer."""
    entries = [
        run_cli(
            *("fuse", *shots, "-o", tmp_path / "x.png", "--json"),
            *("--half-spacing-um", spacing_um, "--tone-curve", "linear"),
        ).document
        for spacing_um in (0.5, 0.75)
    ]
    assert entries[0]["offset_um"] > entries[1]["offset_um"]


def damage(path: Path, how: str) -> None:
    """Spoil a good picture."""
    content, pixels = path.read_bytes(), read(path)
    if how == "missing":
        path.unlink()
    elif how == "cut in half":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("not a picture")
    elif how == "grey":
        Image.fromarray(pixels[..., 0]).save(path)
    elif how == "RGBA":
        Image.fromarray(np.dstack([pixels, pixels[..., 0]])).save(path)
    elif how == "16-bit RGB":
        cv2.imwrite(str(path), pixels.astype(np.uint16) * 257)
    elif how == "16-bit grey":
        cv2.imwrite(str(path), pixels[..., 0].astype(np.uint16) * 257)
    elif how == "smaller":
        Image.fromarray(pixels[:-8]).save(path)
    elif how == "a folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", ["cannot read the picture", "No such file"]),
        ("cut in half", ["truncated"]),
        ("empty", ["not a picture of a known kind, or damaged"]),
        ("text", ["not a picture of a known kind, or damaged"]),
        ("grey", ["is grey", "8-bit RGB", "convert"]),
        ("RGBA", ["is RGB with transparency", "8-bit RGB", "convert"]),
        ("16-bit RGB", ["is 16-bit RGB", "8-bit RGB", "convert"]),
        ("16-bit grey", ["is 16-bit grey", "8-bit RGB", "convert"]),
        ("smaller", ["224x224 px", "224x216 px", "one size"]),
        ("a folder", ["Is a directory"]),
    ],
)
def test_a_bad_picture(
    shots: tuple[Path, Path], tmp_path: Path, how: str, words: list[str]
) -> None:
    damage(shots[1], how)
    out = tmp_path / "out" / "fused.png"
    assert run_cli("fuse", *shots, "-o", out).fails(2, str(shots[1]), *words)
    assert not out.parent.exists()
    (tmp_path / "pairs.json").write_text(json.dumps(describe_optics()))
    outcome = run_cli("fuse", "--pairs", tmp_path, "-o", tmp_path / "out")
    assert outcome.fails(2, str(shots[1]))
    assert not list((tmp_path / "out").glob("*"))


def test_pictures_too_small_to_fuse(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        Image.new("RGB", (63, 90), "white").save(path)
    outcome = run_cli("fuse", *paths, "-o", tmp_path / "c.png")
    assert outcome.fails(2, str(paths[0]), "63x90 px", "at least 64 px")


def test_a_16_bit_tiff(shots: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    cv2.imwrite(str(path), read(shots[0]).astype(np.uint16) * 257)
    outcome = run_cli("fuse", path, path, "-o", tmp_path / "c.png")
    assert outcome.fails(2, str(path), "is 16-bit RGB")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["cannot read it", "half_spacing_um"]),
        ("na: 0.75", ["not JSON"]),
        ("[0.75]", ["expected a mapping"]),
        ('{"na": NaN}', ["key 'na'", "nan", "key 'pixel_um' is missing"]),
    ],
)
def test_a_description_that_is_none(
    shots: tuple[Path, Path], tmp_path: Path, text: str | None, words: list[str]
) -> None:
    if text is not None:
        (tmp_path / "pairs.json").write_text(text)
    outcome = run_cli("fuse", "--pairs", tmp_path, "-o", tmp_path / "out")
    assert outcome.fails(2, str(tmp_path / "pairs.json"), *words)
    assert shots[0].exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("na", float("nan"), "nan"),
        ("na", -0.75, "-0.75"),
        ("pixel_um", -0.25, "-0.25"),
        ("pixel_um", float("inf"), "inf"),
        ("half_spacing_um", 0, "0"),
        ("half_spacing_um", None, "is missing"),
        ("wavelengths_um", [0.6, 0.5], "wavelengths_um"),
        ("wavelengths_um", [620, 530, 460], "620"),
        ("wavelengths_um", [0.6, 0.5, float("nan")], "nan"),
        ("refractive_index", 0.7, "0.7"),
        ("tone_curve", "gamma", "'linear' or 'srgb'"),
    ],
)
def test_a_description_with_a_bad_value(
    folder: Path, tmp_path: Path, key: str, value: object, word: str
) -> None:
    write_pairs(tmp_path, {}, **{key: value})
    outcome = run_cli("fuse", "--pairs", tmp_path, "-o", tmp_path / "out")
    assert outcome.fails(2, str(tmp_path / "pairs.json"), f"key '{key}", word)
    assert not (tmp_path / "out").exists()


def test_an_aperture_that_the_medium_cannot_carry(tmp_path: Path) -> None:
    write_pairs(tmp_path, {}, na=1.2)
    outcome = run_cli("fuse", "--pairs", tmp_path, "-o", tmp_path / "out")
    assert outcome.fails(2, "pairs.json", "refractive_index", "above na (1.2)")


def test_bad_options_are_named(shots: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "c.png"
    for option, value in (("--na", "nan"), ("--pixel-um", -1), ("--na", 1.2)):
        assert run_cli("fuse", *shots, "-o", out, option, value).fails(
            2, "options: key"
        )
    assert not out.exists()


def test_folders_without_whole_pairs(shots: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    missing = tmp_path / "nowhere"
    outcome = run_cli("fuse", "--pairs", missing, "-o", out)
    assert outcome.fails(2, str(missing), "no such folder")
    empty = write_pairs(tmp_path / "empty", {})
    outcome = run_cli("fuse", "--pairs", empty, "-o", out)
    assert outcome.fails(2, str(empty), "no pairs", "NAME_a.png")
    write_pairs(tmp_path, {})
    shots[1].unlink()
    outcome = run_cli("fuse", "--pairs", tmp_path, "-o", out)
    assert outcome.fails(2, str(shots[1]), "missing", "partner")
    assert not out.exists()


def test_the_wrong_number_of_pictures(shots: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "c.png"
    assert run_cli("fuse", "-o", out).fails(2, "two pictures A B, or --pairs")
    assert run_cli("fuse", shots[0], "-o", out).fails(2, "got 1")
    assert run_cli("fuse", *shots, shots[0], "-o", out).fails(2, "got 3")
    both = run_cli("fuse", *shots, "--pairs", tmp_path, "-o", out)
    assert both.fails(2, "or --pairs DIR")
    assert run_cli("fuse", *shots, "-o", out, "--model", "gan").fails(1, "'gan'")


def test_names_that_no_picture_may_have(
    shots: tuple[Path, Path], tmp_path: Path
) -> None:
    before = shots[0].read_bytes()
    for out, word in (
        (tmp_path, "is a folder"),
        (tmp_path / "c.jpg", "name it"),
        (shots[0], "is one of the shots"),
    ):
        assert run_cli("fuse", *shots, "-o", out).fails(2, str(out), word)
    assert shots[0].read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_an_output_below_a_file(
    shots: tuple[Path, Path], folder: Path, tmp_path: Path
) -> None:
    out = shots[0] / "out"
    assert run_cli("fuse", *shots, "-o", out / "c.png").fails(1, "Not a directory")
    outcome = run_cli("fuse", "--pairs", folder, "-o", out)
    assert outcome.fails(1, str(out), "cannot make the output folder")


def test_a_full_disk(shots: tuple[Path, Path], folder: Path, tmp_path: Path) -> None:
    """Nothing half-written stays, and no list of an earlier run beside new pictures."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "fuse.json").write_text("{}")
    with files_at_most(4096):
        single = run_cli("fuse", *shots, "-o", out / "c.png")
        many = run_cli("fuse", "--pairs", folder, "-o", out)
    assert single.fails(1, str(out / "c.png"), "cannot write", "File too large")
    assert many.fails(1, "field 0.png", "cannot write", "File too large")
    assert not list(out.iterdir())
