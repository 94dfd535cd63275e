"""What an exported network takes, and how a measured pair becomes that.

Pictures travel as a camera gives them, uint8 (rows, columns, 3); colour order, scale
and layout are the graph's own business.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bifocus.edge.shifted_shot import shift_shot
from bifocus.engine_manifest import (
    SUFFIX,
    EngineManifest,
    TensorSpec,
    check_verified,
    load_manifest,
    manifest_path,
    read_checked,
)
from bifocus.errors import EngineError
from bifocus.physics_fusion import MeasuredPair, PhysicsResult
from bifocus.records import UInt8Image

# All that a pair offers, on the pixel grid of the sharper shot. minus, plus: in
# physical order; sharper, other: sorted by Brenner gradient; physics: their fusion;
# remainder: what that lost by rounding (`bifocus.tone.encode_remainder`).
PICTURES = ("minus", "plus", "physics", "sharper", "other", "remainder")
# What the loop must know beside the picture, where a graph holds the physics.
NUMBERS = frozenset(
    {"offset_um", "sd_um", "confidence", "quality", "sharper_is_plus", "clearest"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkForm:
    """The shape of a network, whatever runs it.

    Attributes
    ----------
    network
        Name of the network.
    inputs, output
        Names of the pictures it takes, in the graph's order, and of what it gives.
    stride_px, halo_px
        Windows start at multiples of the stride, and their pixels are those of the
        whole picture from `halo_px` inside.
    size_px
        Rows and columns of a graph of one size; None where it takes any.
    manifest
        None for a graph that was exported before there were manifests.
    tables, numbers
        Of a graph with physics inside: the tables of the optics that it takes, and
        what it gives beside the picture; see `bifocus.edge.whole_fuser`.
    """

    network: str
    inputs: tuple[str, ...]
    output: str
    stride_px: int
    halo_px: int
    size_px: tuple[int, int] | None = None
    manifest: EngineManifest | None = None
    tables: tuple[TensorSpec, ...] = ()
    numbers: tuple[TensorSpec, ...] = ()

    def __post_init__(self) -> None:
        """Refuse pictures that a pair does not have."""
        unknown = [name for name in self.inputs if name not in PICTURES]
        if unknown:
            msg = (
                f"{self.network}: asks for '{unknown[0]}'; a pair has "
                f"{', '.join(PICTURES)}"
            )
            raise EngineError(msg)
        if self.stride_px < 1 or self.halo_px < 0 or self.halo_px % self.stride_px:
            msg = (
                f"{self.network}: halo {self.halo_px} px is no multiple of the stride, "
                f"{self.stride_px} px; export it anew"
            )
            raise EngineError(msg)


def load_form(
    path: Path, *, is_trial: bool = False, is_whole: bool = False
) -> NetworkForm:
    """Return the form of an exported file, or of a manifest itself.

    Parameters
    ----------
    path
        Either.
    is_trial
        Take an unverified engine: for the check that is to verify it.
    is_whole
        Take physics inside, and nothing else.

    Raises
    ------
    EngineError
        If there is no manifest, it is damaged, the engine is unverified, or physics is
        inside where it must not be.
    """
    manifest = load_manifest(path)
    if not is_trial:
        check_verified(manifest)
    if not path.name.endswith(SUFFIX) and path.name != manifest.main_file:
        msg = (
            f"{path}: its manifest is that of {manifest.main_file}; mend: "
            f"{manifest.export_command}"
        )
        raise EngineError(msg)
    return _read_whole(manifest) if is_whole else read_form(manifest)


def holds_physics(path: Path) -> bool:
    """Return whether the file beside this manifest, or this manifest, does it all.

    Raises
    ------
    EngineError
        If the manifest is damaged; a file without one holds a network alone.
    """
    has_manifest = path.name.endswith(SUFFIX) or manifest_path(path).is_file()
    return has_manifest and load_manifest(path).physics == "inside"


def read_form(manifest: EngineManifest) -> NetworkForm:
    """Return the form that a manifest describes.

    Raises
    ------
    EngineError
        If the graph takes or gives anything but pictures of bytes.
    """
    if manifest.physics == "inside":
        msg = (
            f"{manifest.main_file}: it holds the physics too: it takes two shots and "
            "the tables of their optics, and no windows of pictures"
        )
        raise EngineError(msg)
    for tensor in (*manifest.inputs, *manifest.outputs):
        if (tensor.dtype, tensor.layout) != ("uint8", "NHWC"):
            msg = (
                f"{manifest.main_file}: '{tensor.name}' is {tensor.dtype} "
                f"{tensor.layout}, expected uint8 NHWC; mend: {manifest.export_command}"
            )
            raise EngineError(msg)
    if len(manifest.outputs) != 1:
        msg = f"{manifest.main_file}: {len(manifest.outputs)} outputs, expected one"
        raise EngineError(msg)
    height_px, width_px = manifest.height_px, manifest.width_px
    return NetworkForm(
        network=manifest.network,
        inputs=_names(manifest.inputs),
        output=manifest.outputs[0].name,
        stride_px=manifest.stride_px,
        halo_px=manifest.halo_px,
        size_px=(height_px, width_px) if height_px and width_px else None,
        manifest=manifest,
    )


def _read_whole(manifest: EngineManifest) -> NetworkForm:
    """Return the form of a whole fusion: two shots and tables in, one picture out."""
    pictures = [spec for spec in manifest.inputs if spec.layout == "NHWC"]
    fused = [spec for spec in manifest.outputs if spec.layout == "NHWC"]
    tables = tuple(spec for spec in manifest.inputs if spec.layout == "table")
    numbers = tuple(spec for spec in manifest.outputs if spec.layout == "number")
    small = (*tables, *numbers)
    is_right = (
        manifest.physics == "inside"
        and manifest.batch == 1
        and manifest.height_px is not None
        and manifest.width_px is not None
        and {spec.name for spec in pictures} == {"minus", "plus"}
        and len(fused) == 1
        and all(spec.dtype == "uint8" for spec in (*pictures, *fused))
        and all(spec.dtype == "float32" and spec.shape is not None for spec in small)
        and {spec.name for spec in numbers} >= NUMBERS
    )
    if not is_right or manifest.height_px is None or manifest.width_px is None:
        msg = (
            f"{manifest.main_file}: not two shots of one size and tables in, a picture "
            f"and {', '.join(sorted(NUMBERS))} out; mend: {manifest.export_command}"
        )
        raise EngineError(msg)
    return NetworkForm(
        network=manifest.network,
        inputs=_names(pictures),
        output=fused[0].name,
        stride_px=manifest.stride_px,
        halo_px=manifest.halo_px,
        size_px=(manifest.height_px, manifest.width_px),
        manifest=manifest,
        tables=tables,
        numbers=numbers,
    )


def read_file(form: NetworkForm, path: Path) -> bytes:
    """Return a file's bytes, if they are those that its manifest names.

    Raises
    ------
    EngineError
        If it is missing or changed.
    """
    if form.manifest is None:
        msg = f"{path}: has no manifest; export it anew"
        raise EngineError(msg)
    return read_checked(form.manifest, path.parent, path.name)


def mend(form: NetworkForm | None) -> str:
    """Return the end of an error's text: the command that makes the files again."""
    if form is None or form.manifest is None:
        return ""
    return f". Mend: {form.manifest.export_command}"


def check_tensors(form: NetworkForm, found: Sequence[TensorSpec], where: str) -> None:
    """Refuse a graph, engine or server whose inputs and output are not the form's.

    Raises
    ------
    EngineError
        If a name, type or layout differs.
    """
    names = (*form.inputs, form.output)
    expected: set[tuple[str, str, str]] = {(name, "uint8", "NHWC") for name in names}
    expected |= {
        (spec.name, spec.dtype, str(spec.shape))
        for spec in (*form.tables, *form.numbers)
    }
    seen: set[tuple[str, str, str]] = {
        (
            tensor.name,
            tensor.dtype,
            str(tensor.shape) if tensor.shape is not None else tensor.layout,
        )
        for tensor in found
    }
    if seen == expected:
        return
    odd = sorted(seen - expected) or sorted(expected - seen)
    what = "has" if seen - expected else "lacks"
    msg = (
        f"{where}: it {what} {odd[0][0]} ({odd[0][1]} {odd[0][2]}); {form.network} has "
        f"{', '.join(sorted(f'{n} ({t} {x})' for n, t, x in expected))}{mend(form)}"
    )
    raise EngineError(msg)


def pair_pictures(
    measured: MeasuredPair, physics: PhysicsResult, names: Sequence[str]
) -> dict[str, UInt8Image]:
    """Return the named pictures, all on the sharper shot's grid.

    Parameters
    ----------
    measured
        The pair, as the camera gave it.
    physics
        Its training-free fusion, on that grid already.
    names
        Out of `PICTURES`; what is not named costs nothing.
    """
    down, right = measured.shift_px
    minus, plus = measured.minus, measured.plus
    if measured.sharper_is_plus:
        minus = shift_shot(minus, -down, -right)
        sharper, other = plus, minus
    else:
        plus = shift_shot(plus, down, right)
        sharper, other = minus, plus
    pictures = {
        "minus": minus,
        "plus": plus,
        "physics": physics.pixels,
        "sharper": sharper,
        "other": other,
    }
    if "remainder" in names:
        pictures["remainder"] = physics.remainder()
    return {name: pictures[name] for name in names}


def _names(tensors: Sequence[TensorSpec]) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in tensors)
