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
    keys = [str(key) for key in problem["loc"]]
    dotted = ".".join(keys) or "(whole file)"
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, keys[:-1])
        nearest = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.0)
        return f"unknown key '{dotted}'; did you mean '{nearest[0]}'?"
    if problem["type"] == "missing":
        return f"key '{dotted}' is missing"
    return f"key '{dotted}': {problem['msg']}, got {problem['input']!r}"


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    for key in path:
        if key not in model.model_fields:
            break
        inner = _inner_model(model.model_fields[key].annotation)
        if inner is None:
            break
        model = inner
    return list(model.model_fields)


def _inner_model(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType):
        candidates = (_inner_model(item) for item in typing.get_args(annotation))
        return next((found for found in candidates if found is not None), None)
    return None
