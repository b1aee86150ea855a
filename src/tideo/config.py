"""Recipes: a run is configured by a function that returns a frozen, possibly nested, dataclass.

`--set train.lr=1e-4` replaces one field and is typed by the field's annotation. `run.json` keeps the resolved
recipe, which `from_plain` reads back.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tideo.registry import unknown
from tideo.types import UserError

Config = TypeVar("Config")


# --- --set key=value ------------------------------------------------------------------------------


def override(
    config: Config,
    settings: Iterable[str],
    *,
    option: str = "--set",
    unused: Callable[[Config], Mapping[str, str]] | None = None,
) -> Config:
    """A copy of the dataclass with each "dotted.key=value" set; the last value of a key holds.

    All are set at once, so that fields that are valid only together (`steps=none`, `epochs=1`) can come in any order.
    A nested part that is None is made from the keys given for it, as in `train.epochs=1`. Values: int, float, bool
    (true/false), str, none, a Literal's choices, tuples as a,b,c. Raises UserError for an unknown key (naming near
    matches), a value of another type, a value that the dataclass refuses, or a setting that changes nothing. `option`
    names the settings in the message. `unused(config)`: "dotted.key" of the result that changes nothing → the reason;
    by default what the dataclass itself says in `unused`.
    """
    settings = list(settings)
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"{option} {setting}: expected key=value, as in train.lr=1e-4")
        _collect(changes, config, key.strip().split("."), text.strip(), setting=f"{option} {setting}")
    try:
        changed: Config = _replaced(config, changes)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"{option} {' '.join(settings)}: {error}") from error
    reasons = unused(changed) if unused else getattr(changed, "unused", {})
    for setting in settings:
        if (key := setting.partition("=")[0].strip()) in reasons and _value(changed, key) != _value(
            config, key
        ):
            raise UserError(f"{option} {setting}: it changes nothing ({reasons[key]}); leave it out")
    return changed


def _value(config: Any, key: str) -> Any:
    """The value of a dotted key; None below a part that is None."""
    for name in key.split("."):
        config = getattr(config, name, None)
    return config


def split_settings(settings: Iterable[str], kind: type[Any]) -> tuple[list[str], list[str]]:
    """The "key=value" settings whose key is a field of the dataclass `kind`, and the others."""
    names = {field.name for field in dataclasses.fields(kind)}
    split: tuple[list[str], list[str]] = ([], [])
    for setting in settings:
        split[setting.partition("=")[0].strip() not in names].append(setting)
    return split


def _collect(changes: dict[str, Any], of: Any, path: list[str], text: str, *, setting: str) -> None:
    """Put a value into `changes`: name → value, or name → the changes of a part. `of` is a dataclass or its class."""
    name, *rest = path
    hints = _hints(of)
    if name not in hints:
        renamed = getattr(of, "renamed", {})
        hint = f"{name} is now {renamed[name]}" if name in renamed else unknown(name, known=hints, what="key")
        raise UserError(f"{setting}: {hint}")
    if not rest:
        try:
            changes[name] = _convert(text, hints[name], _FROM_TEXT)
        except (TypeError, ValueError) as error:
            raise UserError(f"{setting}: {error}") from error
        return
    part = _part(of, name)
    if part is None:
        raise UserError(f"{setting}: {name} has no keys of its own, so there is no {rest[0]!r}")
    if not isinstance(changes.get(name), dict):
        changes[name] = {}
    _collect(changes[name], part, rest, text, setting=setting)


def _hints(of: Any) -> dict[str, Any]:
    cls = of if isinstance(of, type) else type(of)
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _part(of: Any, name: str) -> Any:
    """The dataclass in that field, or the class of the one that it can hold; None for a field that holds none."""
    part = None if isinstance(of, type) else getattr(of, name)
    if dataclasses.is_dataclass(part):
        return part
    annotation = _hints(of)[name]
    kinds = [kind for kind in (annotation, *get_args(annotation)) if dataclasses.is_dataclass(kind)]
    return kinds[0] if len(kinds) == 1 else None


def _replaced(of: Any, changes: Mapping[str, Any]) -> Any:
    new = {
        name: _replaced(_part(of, name), value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return of(**new) if isinstance(of, type) else dataclasses.replace(of, **new)


def from_plain(cls: type[Config], data: Mapping[str, Any]) -> Config:
    """The dataclass from its JSON object, such as a recipe from `run.json`.

    Raises UserError for an unknown key or a value of another type, as after an incompatible change.
    """
    try:
        return _convert(data, cls, _FROM_JSON)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"this is no valid {cls.__name__}: {error}") from error


# Readers of leaf values. Each raises ValueError that says what it expected.
def _text_bool(text: Any) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise ValueError(f"expected true or false, not {text!r}")
    return words[text.lower()]


def _text_int(text: Any) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, not {text!r}") from None


def _text_float(text: Any) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):  # run.json is strict JSON, which has neither nan nor inf
        raise ValueError(f"expected a finite number, not {text!r}")
    return value


def _text_none(text: Any) -> None:
    if text.lower() not in ("none", "null"):
        raise ValueError(f"expected none, not {text!r}")


def _json_leaf(leaf: type) -> Callable[[Any], Any]:
    accepted: tuple[type, ...] = (int, float) if leaf is float else (leaf,)

    def read(value: Any) -> Any:
        # To Python a bool is an int; in JSON they differ.
        if not isinstance(value, accepted) or (isinstance(value, bool) and leaf is not bool):
            raise ValueError(f"expected {leaf.__name__}, not {value!r}")
        return leaf(value) if leaf is not type(None) else None

    return read


Leaves = Mapping[Any, Callable[[Any], Any]]
_FROM_TEXT: Leaves = {bool: _text_bool, int: _text_int, float: _text_float, str: str, type(None): _text_none}
_FROM_JSON: Leaves = {leaf: _json_leaf(leaf) for leaf in _FROM_TEXT}


def _convert(value: Any, annotation: Any, leaves: Leaves) -> Any:
    """`value` (text of the command line, or JSON) as a value of the annotated type. Raises ValueError."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation in leaves:
        return leaves[annotation](value)
    if origin in (Union, types.UnionType):
        return _first_that_fits(value, args, leaves)
    if origin is Literal:
        for choice in args:
            if value == (str(choice) if leaves is _FROM_TEXT else choice):
                return choice
        raise ValueError(f"expected one of {', '.join(map(str, args))}, not {value!r}")
    if origin is tuple:
        return _convert_tuple(value, args, leaves)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _convert_dataclass(value, annotation, leaves)
    if origin is dict and leaves is _FROM_JSON and isinstance(value, Mapping):
        return {key: _convert(item, args[1], leaves) for key, item in value.items()}
    if annotation is Any and leaves is _FROM_JSON:
        return value
    raise ValueError(f"a value of type {annotation} cannot be read from {value!r}")


def _first_that_fits(value: Any, args: tuple[Any, ...], leaves: Leaves) -> Any:
    # None is tried first and str last, because "none" and "3" are also strings.
    order = sorted(args, key=lambda arg: (arg is str) - (arg is type(None)))
    errors = []
    for arg in order:
        try:
            return _convert(value, arg, leaves)
        except ValueError as error:
            errors.append(str(error))
    raise ValueError("; ".join(reversed(errors)))


def _convert_tuple(value: Any, args: tuple[Any, ...], leaves: Leaves) -> tuple[Any, ...]:
    if leaves is _FROM_TEXT:
        inner = value.removeprefix("(").removesuffix(")").strip().removesuffix(",")
        value = [item.strip() for item in inner.split(",")] if inner else []
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list, not {value!r}")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_convert(item, args[0], leaves) for item in value)
    if len(args) != len(value):
        raise ValueError(f"expected {len(args)} values, not {len(value)}")
    return tuple(_convert(item, arg, leaves) for item, arg in zip(value, args, strict=True))


def _convert_dataclass(value: Any, cls: type, leaves: Leaves) -> Any:
    hints = _hints(cls)
    if leaves is _FROM_TEXT:
        raise ValueError(f"set its keys one by one: {', '.join(hints)}")
    if not isinstance(value, Mapping):
        raise ValueError(f"expected the keys of {cls.__name__}, not {value!r}")
    if extra := sorted(set(value) - set(hints)):
        raise ValueError(f"{cls.__name__} has no {', '.join(extra)}; known: {', '.join(hints)}")
    return cls(**{key: _convert(item, hints[key], leaves) for key, item in value.items()})
