"""The command that turns a slide into another format."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from bifocus.cli_output import out_console, print_json

slides = typer.Typer()


@slides.command(epilog="Example: `bifocus convert scan1 --to dicom -o scan1-dicom`")
def convert(
    slide: Annotated[
        Path, typer.Argument(metavar="SCAN", help="Scan folder, or its slide.ome.tiff.")
    ],
    to: Annotated[
        Literal["dicom", "zarr"],
        typer.Option(help="DICOM whole slide images, or OME-Zarr 0.5."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to make.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document with the files.")
    ] = False,
) -> None:
    """Write a finished slide as DICOM or OME-Zarr; the slide stays as it is."""
    path = slide / "slide.ome.tiff" if slide.is_dir() else slide
    if to == "dicom":
        from bifocus.edge.export_dicom import export_dicom

        files = [str(file) for file in export_dicom(path, out)]
    else:
        from bifocus.edge.export_zarr import export_zarr

        files = [str(out / name) for name in export_zarr(path, out)]
    if as_json:
        print_json({"slide": str(path), "format": to, "out": str(out), "files": files})
    else:
        out_console.print(
            f"wrote {len(files)} parts into {out}", highlight=False, soft_wrap=True
        )
