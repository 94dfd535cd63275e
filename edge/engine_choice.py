"""Chooses what fuses: a model, and an engine that runs it here.

A model is `physics`, an exported file, or a folder with a `default.yaml` that lists its
files in order of preference. `auto` is the folder that is shipped, and physics where
that has nothing that runs here. What was tried, and why it was not taken, is logged.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field

from bifocus.config import EngineName, Scan
from bifocus.config_model import Model, parse_model
from bifocus.edge.engine_chain import Candidate, EngineChain
from bifocus.edge.fusers import PHYSICS_FUSERS, Fuser, PhysicsFuser
from bifocus.edge.network_fuser import NetworkEngine, NetworkFuser
from bifocus.edge.network_inputs import holds_physics
from bifocus.edge.onnx_fuser import OnnxEngine
from bifocus.edge.openvino_fuser import OpenvinoEngine
from bifocus.edge.server_fuser import ServerEngine
from bifocus.edge.tensorrt_fuser import TensorrtEngine
from bifocus.edge.whole_fuser import WholeEngine, WholeFuser
from bifocus.edge.whole_onnx import WholeOnnxEngine
from bifocus.edge.whole_openvino import WholeOpenvinoEngine
from bifocus.edge.whole_server import WholeServerEngine
from bifocus.engine_manifest import SUFFIX
from bifocus.errors import ConfigError, EngineError

logger = logging.getLogger(__name__)

DEFAULT_FILE = "default.yaml"
# Engines for a kind of file, the preferred one first.
_ENGINES: Mapping[str, tuple[EngineName, ...]] = {
    ".onnx": ("onnxruntime", "openvino", "server"),
    ".xml": ("openvino", "server"),
    ".engine": ("tensorrt",),
    SUFFIX: ("server",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineWish:
    """What the user wants to run it; the keys of the instrument file's `scan:`."""

    engine: EngineName = "auto"
    on_failure: Literal["stop", "next"] = "stop"
    server: str | None = None
    server_deadline_s: float = 10.0

    @classmethod
    def of(cls, scan: Scan, engine: EngineName | None = None) -> "EngineWish":
        """Return the file's wish; `engine` from the command line goes before it."""
        return cls(
            engine=engine or scan.engine,
            on_failure=scan.on_engine_failure,
            server=scan.server,
            server_deadline_s=scan.server_deadline_s,
        )


class ModelFolder(Model):
    """The contents of `default.yaml`: exported files, the preferred one first."""

    files: tuple[Annotated[str, Field(pattern=r"^[\w.-]+$")], ...] = Field(min_length=1)


def choose_fuser(model: str = "auto", wish: EngineWish | None = None) -> EngineChain:
    """Return the fuser, its engine ready.

    Parameters
    ----------
    model
        `auto`, `physics`, `physics-joint`, the path of an exported file, or of a
        folder with a `default.yaml`.
    wish
        The engine, and what happens when it fails at work.

    Raises
    ------
    EngineError
        If nothing that was asked for runs here: why, and what mends it.
    ConfigError
        If model and engine contradict each other, or a `default.yaml` is wrong.
    """
    wish = wish or EngineWish()
    candidates = list(_candidates(model, model_files(model), wish))
    return EngineChain(candidates, wish.on_failure)


def _candidates(
    model: str, paths: tuple[Path, ...], wish: EngineWish
) -> Iterator[Candidate]:
    if wish.engine == "physics" or model in PHYSICS_FUSERS:
        named = "physics" if model == "auto" else model
        if named not in PHYSICS_FUSERS or wish.engine not in ("auto", "physics"):
            msg = f"--model {model} and --engine {wish.engine} contradict each other"
            raise ConfigError(msg)
        yield Candidate(name=named, open=PHYSICS_FUSERS[named])
        return
    found = False
    for engine, path in _in_order(paths, wish):
        found = True
        name = f"{engine}, {path.name}"
        yield Candidate(name=name, open=partial(_open, engine, path, wish))
    is_free = model == "auto" and wish.engine == "auto"
    if not found and not is_free:
        raise EngineError(_nothing_runs(model, paths, wish))
    if is_free or wish.on_failure == "next":
        yield Candidate(name="physics", open=PhysicsFuser, is_spare=not is_free)


def _in_order(paths: Sequence[Path], wish: EngineWish) -> list[tuple[EngineName, Path]]:
    """Return what may run, the preferred first, the cheaper one where that is free.

    On a processor physics inside a graph costs more than NumPy's, and OpenVINO runs it
    for less than ONNX Runtime: where the engine is left open, such a file comes after
    those of networks alone.
    """
    listed = [(engine, path) for path in paths for engine in _engines_for(path, wish)]
    dear = {path for path in paths if path.suffix != ".engine" and _is_whole(path)}
    if wish.engine != "auto" or not dear:
        return listed
    costs = {"openvino": 1, "onnxruntime": 2}
    ordered = sorted(listed, key=lambda one: costs[one[0]] if one[1] in dear else 0)
    if ordered != listed:
        logger.info(
            "on a processor physics inside a graph costs more than NumPy's, and less "
            "in openvino than in onnxruntime: trying %s",
            "; ".join(f"{engine}, {path.name}" for engine, path in ordered),
        )
    return ordered


def _is_whole(path: Path) -> bool:
    try:
        return holds_physics(path)
    except EngineError:  # whoever opens it says what is wrong with it
        return False


def engines_of(path: Path) -> tuple[EngineName, ...]:
    """Return the engines that run files of this kind, installed or not."""
    return _ENGINES.get(_kind(path), ())


def _engines_for(path: Path, wish: EngineWish) -> tuple[EngineName, ...]:
    engines = engines_of(path)
    if wish.engine == "auto":
        # A network is never used, nor a picture sent anywhere, unless asked for.
        return tuple(engine for engine in engines if engine != "server")
    return (wish.engine,) if wish.engine in engines else ()


def _nothing_runs(model: str, paths: tuple[Path, ...], wish: EngineWish) -> str:
    if not paths:
        return (
            f"no network is shipped that --engine {wish.engine} could run; name one "
            "with --model FILE"
        )
    kinds = sorted(suffix for suffix, names in _ENGINES.items() if wish.engine in names)
    return (
        f"{model}: --engine {wish.engine} runs files of kind {', '.join(kinds)}; make "
        "one with bifocus export, or take --engine auto"
    )


def model_files(model: str) -> tuple[Path, ...]:
    """Return the files of a model, the preferred one first; none for physics.

    Raises
    ------
    EngineError
        If there is no such model.
    ConfigError
        If a `default.yaml` is wrong.
    """
    if model in PHYSICS_FUSERS:
        return ()
    if model == "auto":
        shipped = Path(str(files("bifocus"))) / "data" / "weights"
        return _listed(shipped) if (shipped / DEFAULT_FILE).is_file() else ()
    if Path(model).is_dir():
        return _listed(Path(model))
    if _kind(Path(model)) in _ENGINES:
        return (Path(model),)
    msg = (
        f"no model '{model}'; available: {', '.join(PHYSICS_FUSERS)}, a file "
        f"{', '.join('NAME' + suffix for suffix in _ENGINES)}, or a folder with "
        f"{DEFAULT_FILE}"
    )
    raise EngineError(msg)


def _kind(path: Path) -> str:
    return SUFFIX if path.name.endswith(SUFFIX) else path.suffix


def _listed(folder: Path) -> tuple[Path, ...]:
    path = folder / DEFAULT_FILE
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = (
            f"{folder}: no {DEFAULT_FILE}, which lists the folder's exported files as "
            "files: [NAME.onnx]; or name a file"
        )
        raise EngineError(msg) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{path}: cannot read it: {' '.join(str(error).split())}"
        raise ConfigError(msg) from error
    listed = parse_model(ModelFolder, document, source=str(path))
    return tuple(folder / name for name in listed.files)


def _open(engine: EngineName, path: Path, wish: EngineWish) -> Fuser:
    if not holds_physics(path):
        return NetworkFuser(_NETWORK_ENGINES[engine](path, wish))
    fuser = WholeFuser(_WHOLE_ENGINES[engine](path, wish))
    if engine in _ON_CPU:
        logger.info(
            "engine %s, %s: physics inside is made for GPUs; on this processor the "
            "network alone, its physics by NumPy, is cheaper (docs/engines.md): "
            "export it without --whole",
            engine,
            path.name,
        )
    return fuser


_ON_CPU = ("onnxruntime", "openvino")
_NETWORK_ENGINES: Mapping[str, Callable[[Path, EngineWish], NetworkEngine]] = {
    "onnxruntime": lambda path, _: OnnxEngine(path),
    "openvino": lambda path, _: OpenvinoEngine(path),
    "tensorrt": lambda path, _: TensorrtEngine(path),
    "server": lambda path, wish: ServerEngine(
        path, wish.server, deadline_s=wish.server_deadline_s
    ),
}
_WHOLE_ENGINES: Mapping[str, Callable[[Path, EngineWish], WholeEngine]] = {
    "onnxruntime": lambda path, _: WholeOnnxEngine(path),
    "openvino": lambda path, _: WholeOpenvinoEngine(path),
    "tensorrt": lambda path, _: TensorrtEngine(path, is_whole=True),
    "server": lambda path, wish: WholeServerEngine(
        path, wish.server, deadline_s=wish.server_deadline_s
    ),
}
