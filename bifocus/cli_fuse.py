"""The command `fuse`: image pairs from files become in-focus images."""

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bifocus.cli_options import JsonOption, ModelOption
from bifocus.cli_output import err_console, out_console, print_json, show_progress
from bifocus.config import EngineName
from bifocus.config_model import parse_model
from bifocus.edge.engine_choice import EngineWish, choose_fuser
from bifocus.edge.pairs_folder import (
    NamedPair,
    PairsDescription,
    fuse_files,
    fuse_folder,
)
from bifocus.errors import ConfigError

fusion = typer.Typer()

ServerOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Model server of --engine server (gRPC)."),
]


@fusion.command(
    epilog="Example: `bifocus fuse A.png B.png -o C.png --na 0.5 --half-spacing-um 1`"
    "\n\nExample: `bifocus fuse --pairs DIR -o OUTDIR`"
)
def fuse(
    out: Annotated[Path, typer.Option("-o", "--out", help="Picture, or folder.")],
    shots: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[A B]", help="Pictures at F-dD and F+dD."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Folder of NAME_a.png, NAME_b.png and pairs.json."),
    ] = None,
    model: ModelOption = "auto",
    engine: Annotated[EngineName, typer.Option(help="What runs a network.")] = "auto",
    server: ServerOption = None,
    na: Annotated[float, typer.Option(help="Numerical aperture.")] = 0.75,
    pixel_um: Annotated[float, typer.Option(help="Pixel on the glass, um.")] = 0.25,
    half_spacing_um: Annotated[float, typer.Option(help="dD in um.")] = 0.75,
    wavelengths_um: Annotated[
        tuple[float, float, float], typer.Option(help="Of red, green and blue, um.")
    ] = (0.62, 0.53, 0.46),
    tone_curve: Annotated[
        Literal["auto", "linear", "srgb"],
        typer.Option(help="What the stored values mean; auto tries both."),
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Fuse image pairs into in-focus images."""
    if (pairs is None) == (not shots):
        msg = "give two pictures A B, or --pairs DIR"
        raise ConfigError(msg)
    wish = EngineWish(engine=engine, server=server)
    if pairs is not None:
        report = _fuse_pairs(pairs, out, model, wish)
        summary = f"fused {len(report['pairs'])} pairs into {out}"
    else:
        optics = {
            "na": na,
            "pixel_um": pixel_um,
            "half_spacing_um": half_spacing_um,
            "wavelengths_um": wavelengths_um,
            "tone_curve": tone_curve,
        }
        report = _fuse_two(shots or [], out, optics, model, wish)
        summary = (
            f"fused into {out}; best focus at F {report['offset_um']:+.2f} um, "
            f"quality {report['quality']:.2f}"
        )
    if as_json:
        print_json(report)
    else:
        out_console.print(summary, highlight=False, soft_wrap=True)


def _fuse_pairs(pairs: Path, out: Path, model: str, wish: EngineWish) -> dict[str, Any]:
    """Fuse a folder of pairs, with a progress bar; return its report."""
    with (
        closing(choose_fuser(model, wish)) as fuser,
        show_progress("pairs") as progress,
    ):
        return fuse_folder(pairs, out, fuser, progress)


def _fuse_two(
    shots: list[Path], out: Path, optics: dict[str, Any], model: str, wish: EngineWish
) -> dict[str, Any]:
    """Fuse two pictures, saying what optics are taken for theirs; return the report."""
    if len(shots) != 2:
        msg = f"expected two pictures A B, got {len(shots)}"
        raise ConfigError(msg)
    description = parse_model(PairsDescription, optics, source="options")
    err_console.print(
        f"optics: NA {description.na:g}, {description.pixel_um:g} um/px, "
        f"dD {description.half_spacing_um:g} um",
        highlight=False,
    )
    pair = NamedPair(name=out.stem, minus=shots[0], plus=shots[1])
    with closing(choose_fuser(model, wish)) as fuser:
        return fuse_files(pair, out, description, fuser)
