"""The base of every checked file: frozen models, unknown keys refused with a hint.

Every number has a range and carries its unit in its name.
"""

import difflib
import types
import typing
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bifocus.errors import ConfigError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Range_um = tuple[Finite, Finite]


class Model(BaseModel):
    """Frozen model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


ModelT = typing.TypeVar("ModelT", bound=BaseModel)


def parse_model(model: type[ModelT], document: object, *, source: str) -> ModelT:
    """Check a parsed document against a model, with errors a person can act on.

    Raises
    ------
    ConfigError
        One line per problem, each naming `source` and the dotted key.
    """
    if not isinstance(document, dict):
        msg = f"{source}: expected a mapping of keys, found {type(document).__name__}"
        raise ConfigError(msg)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        lines = [
            f"{source}: {_describe(model, dict(problem))}" for problem in error.errors()
        ]
        raise ConfigError("\n".join(lines)) from error


def _describe(model: type[BaseModel], problem: dict[str, typing.Any]) -> str:
    keys, known = _walk(model, problem["loc"])
    dotted = ".".join(keys) or "(whole file)"
    if problem["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.0)
        return f"unknown key '{dotted}'; did you mean '{nearest[0]}'?"
    if problem["type"] == "union_tag_not_found":
        return f"key '{dotted}.kind' is missing"
    if problem["type"] == "union_tag_invalid":
        facts = problem["ctx"]
        return (
            f"key '{dotted}.kind': {facts['tag']!r} is not one of "
            f"{facts['expected_tags']}"
        )
    if problem["type"] == "missing":
        return f"key '{dotted}' is missing"
    return f"key '{dotted}': {problem['msg']}, got {problem['input']!r}"


def _walk(
    model: type[BaseModel], location: tuple[str | int, ...]
) -> tuple[list[str], list[str]]:
    """Return the keys as the user wrote them, and those known at the last one's place.

    In a union of kinds pydantic puts the kind between section and key; it is left out.
    """
    keys: list[str] = []
    known = list(model.model_fields)
    place: type[BaseModel] | None = model
    parts = list(location)
    while parts:
        key = str(parts.pop(0))
        keys.append(key)
        if place is None or key not in place.model_fields:
            place = None
            continue
        known = list(place.model_fields)
        field = place.model_fields[key]
        tag = str(parts.pop(0)) if field.discriminator and parts else None
        place = _inner_model(field.annotation, tag)
        if place is not None and parts:
            known = list(place.model_fields)
    return keys, known


def _inner_model(annotation: object, kind: str | None) -> type[BaseModel] | None:
    """Return the model of a section; among several, that of the kind named."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation if kind is None or kind in _kinds_of(annotation) else None
    if isinstance(annotation, types.UnionType):
        found = (_inner_model(item, kind) for item in typing.get_args(annotation))
        return next((model for model in found if model is not None), None)
    return None


def _kinds_of(model: type[BaseModel]) -> tuple[object, ...]:
    field = model.model_fields.get("kind")
    return typing.get_args(field.annotation) if field is not None else ()
