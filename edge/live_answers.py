"""What the live page's server answers to each address; no sockets here."""

import json
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any

from bifocus.edge.live_pictures import PICTURE_KINDS, TilePictures
from bifocus.edge.live_state import LiveState
from bifocus.edge.live_tiles import LiveSlide
from bifocus.edge.scan_events import ScanControl
from bifocus.errors import SlideFileError

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOREVER = "private, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer; an `etag` lets a browser keep what it has."""

    body: bytes
    media_type: str = "application/json"
    status: int = 200
    cache: str = "no-store"
    etag: str = ""


def answer_json(document: Mapping[str, Any], status: int = 200) -> Answer:
    """Return a document; numbers that are none become null."""
    return Answer(body=compose_json(document), status=status)


def answer_problem(status: int, reason: str) -> Answer:
    """Return why something is not answered, in one sentence."""
    return answer_json({"problem": reason}, status)


def compose_json(document: object) -> bytes:
    """Return compact JSON; NaN and infinity, which JSON lacks, become null."""
    return json.dumps(_finite(document), separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePage:
    """All that one page shows, and what its buttons do.

    `control` and `metrics` are None where there is nothing to steer or to measure.
    `run` tells one server from the next, so that nobody continues an older one's
    numbers.
    """

    state: LiveState
    slide: LiveSlide
    pictures: TilePictures
    control: ScanControl | None = None
    metrics: Callable[[], bytes] | None = None
    static: Mapping[str, Answer] = field(default_factory=lambda: load_static())
    run: str = field(default_factory=lambda: secrets.token_hex(4))

    def get(self, path: str, query: Mapping[str, str], *, may_act: bool) -> Answer:
        """Answer a GET of a path that is no stream.

        Raises
        ------
        SlideFileError
            If a file of the scan cannot be read.
        """
        match path.split("/")[1:]:
            case [""]:
                return self.static["live.html"]
            case ["static", name] if name in self.static:
                return self.static[name]
            case ["state.json"]:
                return answer_json(self.compose_state(may_act))
            case ["surface.json"]:
                return answer_json(self.compose_surface())
            case ["overview.jpg"]:
                picture = self.slide.overview_jpeg()
                if picture is not None:
                    return Answer(body=picture, media_type="image/jpeg")
            case ["tile", *cell]:
                return self._tile(cell, query.get("v", ""))
            case ["shots", row, column, kind] if kind in PICTURE_KINDS:
                return self._shot(row, column, kind)
            case ["metrics"] if self.metrics is not None:
                kind = "text/plain; version=0.0.4; charset=utf-8"
                return Answer(body=self.metrics(), media_type=kind)
        return answer_problem(404, "there is nothing at this address")

    def act(self, path: str) -> Answer:
        """Answer a POST: pause, resume or stop the scan."""
        control = self.control
        actions = {
            "/control/pause": control.pause if control else None,
            "/control/resume": control.resume if control else None,
            "/control/stop": control.stop if control else None,
        }
        if path not in actions:
            return answer_problem(404, "there is nothing at this address")
        action = actions[path]
        if action is None:
            reason = "this page only looks on: the scan is not run by this program"
            return answer_problem(409, reason)
        action()
        return answer_json({"asked": path.rpartition("/")[2]}, 202)

    def compose_state(self, may_act: bool) -> dict[str, Any]:
        """Return everything that the page needs to begin."""
        changes = self.state.changes(0)
        return {
            "run": self.run,
            "number": changes.number,
            "header": asdict(self.state.header),
            "can_act": self.control is not None,
            "may_act": may_act,
            "progress": changes.progress,
            "cells": changes.cells,
        }

    def compose_surface(self) -> dict[str, Any]:
        """Return best focus, offset and quality as rows of the grid; null: unknown."""
        n_rows, n_columns = self.state.header.grid
        names = ("best_focus_um", "offset_um", "sd_um", "quality")
        grids: dict[str, list[list[float | None]]] = {
            name: [[None] * n_columns for _ in range(n_rows)] for name in names
        }
        for cell in self.state.changes(0).cells:
            row, column = cell["row"], cell["column"]
            if not (row < n_rows and column < n_columns) or cell["status"] == "blank":
                continue
            offset_um = cell["offset_um"]
            if offset_um is not None:
                grids["best_focus_um"][row][column] = cell["focus_um"] + offset_um
            for name in names[1:]:
                grids[name][row][column] = cell[name]
        return {"rows": n_rows, "columns": n_columns, **grids}

    def _tile(self, cell: list[str], asked: str) -> Answer:
        numbers = _whole_numbers(cell)
        tile = self.slide.read(*numbers) if len(numbers) == 3 else None
        if tile is None:
            return answer_problem(404, "the slide has no such tile")
        is_kept = tile.final and asked == tile.version
        return Answer(
            body=tile.jpeg,
            media_type="image/jpeg",
            cache=FOREVER if is_kept else ASK_AGAIN,
            etag=f'"{tile.version}"',
        )

    def _shot(self, row: str, column: str, kind: str) -> Answer:
        cell = _whole_numbers([row, column])
        if not cell:
            return answer_problem(404, "the scan has no such tile")
        try:
            found = self.pictures.read(cell[0], cell[1], kind)
        except SlideFileError as error:
            return answer_problem(404, str(error))
        if found is None:
            return answer_problem(404, "this tile has no such picture")
        body, media_type = found
        return Answer(body=body, media_type=media_type)


def load_static() -> dict[str, Answer]:
    """Return the page's own files by name, and the viewer's where it is installed.

    Nothing else of the disk can be asked for: a name is looked up here, never opened.
    """
    found: dict[str, Answer] = {}
    folder = resources.files("bifocus.edge") / "static"
    for place in (folder, folder / "vendor"):
        if not place.is_dir():
            continue
        for file in place.iterdir():
            media_type = _MEDIA_TYPES.get(file.name[file.name.rfind(".") :])
            if media_type is not None and file.is_file():
                found[file.name] = Answer(
                    body=file.read_bytes(), media_type=media_type, cache=ASK_AGAIN
                )
    return found


def _whole_numbers(texts: list[str]) -> list[int]:
    """Return the numbers, or nothing if one of them is none."""
    if all(text.isascii() and text.isdigit() and len(text) < 10 for text in texts):
        return [int(text) for text in texts]
    return []


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
