"""Save an evaluation: JSON with every number, CSV by pair, one self-contained page.

Each file is written beside its place and moved there, so that a full disk leaves the
older one whole.
"""

import base64
import csv
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bifocus.errors import ConfigError, SlideFileError
from bifocus.model.evaluate import FORMAT, REFERENCE, Example
from bifocus.model.result_figures import draw_error_maps, draw_gains, draw_histograms
from bifocus.model.result_tables import make_tables
from bifocus.whole_file import write_whole

# Methods drawn in figures: what fits a legend; the rest is in the tables.
_DRAWN_FIRST = ("base", "fast", "large", "tsva", "unet", "physics", "wiener oracle")
_MOST_DRAWN = 5

_STYLE = """body{font:14px/1.45 sans-serif;margin:2em auto;max-width:70em;color:#222}
table{border-collapse:collapse;margin:.6em 0}td,th{padding:.2em .6em;text-align:right;
border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}
th{background:#f3f3f3}img{max-width:100%}p{color:#555}"""


def save_results(
    folder: Path, document: Mapping[str, Any], examples: Sequence[Example] = ()
) -> None:
    """Write `results.json`, `results.csv` and `results.html` into a folder.

    Raises
    ------
    SlideFileError
        If a file cannot be written; older ones stay.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder}: cannot make the folder: {error.strerror}"
        raise SlideFileError(msg) from error
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    write_whole(folder / "results.json", text + "\n")
    write_whole(folder / "results.csv", render_csv(document))
    write_whole(folder / "results.html", render_html(document, examples))


def load_results(path: Path) -> dict[str, Any]:
    """Return a saved evaluation.

    Raises
    ------
    ConfigError
        If the file is missing or not one.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read as JSON ({error})"
        raise ConfigError(msg) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        msg = f"{path}: not the results.json of `bifocus evaluate` ({FORMAT})"
        raise ConfigError(msg)
    return document


def render_csv(document: Mapping[str, Any]) -> str:
    """Return one row per pair, one column per method (PSNR in dB)."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    models = document["models"]
    writer.writerow(["source", "slide", "offset_um", "half_spacing_um", *models])
    for index, pair in enumerate(document["pairs"]):
        psnr = [model["psnr_db"][index] for model in models.values()]
        facts = [pair["source"], pair["slide"]]
        writer.writerow([*facts, pair["offset_um"], pair["half_spacing_um"], *psnr])
    return stream.getvalue()


def render_html(document: Mapping[str, Any], examples: Sequence[Example] = ()) -> str:
    """Return the page: tables, histograms, gains and error maps, all inside it."""
    names = drawn_names(document)
    figures = [
        ("Histograms (the paper's Figs. 10-11)", draw_histograms(document, names)),
        ("Gain over the sharper shot, tile by tile", draw_gains(document, names)),
    ]
    parts = [f"<h1>{html.escape(str(document.get('title', 'Evaluation')))}</h1>"]
    parts += [f"<p>{html.escape(line)}</p>" for line in describe(document)]
    parts += [table.to_html() for table in make_tables(document)]
    parts += [
        f"<h2>{html.escape(title)}</h2>\n{_image('svg+xml', content)}"
        for title, content in figures
    ]
    for example in examples:
        pair = example.pair
        title = f"Errors: {pair.source}, {pair.slide_id}, n {pair.offset_um:+.2f} um"
        shown = [REFERENCE, *(n for n in names if n != REFERENCE)]
        shown = [name for name in shown if name in example.pictures]
        content = _image("png", draw_error_maps(example, shown))
        parts.append(f"<h2>{html.escape(title)}</h2>\n{content}")
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>bifocus evaluation</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def describe(document: Mapping[str, Any]) -> list[str]:
    """Return the lines above the tables: what was evaluated, and with what."""
    lines = [
        f"bifocus {document['version']}, {len(document['pairs'])} pairs, "
        f"bootstrap seed {document['seed']}."
    ]
    if document.get("textures"):
        lines.append(f"Tissue: {document['textures']}.")
    skipped = document.get("skipped", [])
    if skipped:
        shown = "; ".join(skipped[:5]) + ("; ..." if len(skipped) > 5 else "")
        lines.append(f"{len(skipped)} files were skipped: {shown}")
    return lines


def drawn_names(document: Mapping[str, Any]) -> list[str]:
    """Return the methods that figures show, the reference first."""
    models = document["models"]
    others = [name for name in _DRAWN_FIRST if name in models]
    others += [name for name in models if name not in (*others, REFERENCE)]
    return [REFERENCE, *others][:_MOST_DRAWN]


def _image(kind: str, content: bytes) -> str:
    encoded = base64.b64encode(content).decode("ascii")
    return f'<img alt="" src="data:image/{kind};base64,{encoded}">'
