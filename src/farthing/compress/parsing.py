"""The job file: a TOML text becomes a Job, or a message about everything that is wrong with it."""

import re
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from hashlib import sha256
from math import isfinite
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from farthing.compress.job import Job
from farthing.compress.sense import senseless
from farthing.errors import ConfigError

HINT = "`farthing compress init` writes a job file that explains itself."
_PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_NAMED = re.compile(r"`([^`]*)`")

Kind = Any
"""A type annotation of a field of Job."""
Path = tuple[str | int, ...]


def parse_job(text: str, where: str) -> Job:
    """The job a TOML text describes; `where` is the name of its file, for messages.

    Raises ConfigError with everything that is wrong, one fault to a line, each with the path of its key.
    """
    try:
        values = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not TOML: {error}", hint=HINT) from None
    given = msgspec.json.decode(msgspec.json.encode(values))  # what is wrong is taken out below, and this is kept
    faults, job = _converted(values)
    if job is not None:
        faults += _infinities(job, ())
        faults += senseless(job, given)
    if job is None or faults:
        raise ConfigError("\n".join(f"{where}: {fault}" for fault in faults), hint=HINT)
    return job


def digest(part: object) -> str:
    """The SHA-256, in hex, of a job or of any part of one: equal parts have equal digests."""
    return sha256(msgspec.json.encode(part, order="deterministic")).hexdigest()


def dotted(path: Path) -> str:
    """A path as it is written in messages.

    >>> dotted(("stages", 0, "epochs"))
    'stages[0].epochs'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def nearest(name: str, known: list[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    if near := get_close_matches(name, known, 1):
        return f'; did you mean "{near[0]}"?'
    return f"; it may be {', '.join(known)}"


def _converted(values: dict[str, Any]) -> tuple[list[str], Job | None]:
    """Every fault of the values, found by taking out what is wrong until the rest is right."""
    faults: list[str] = []
    while True:
        try:
            return faults, msgspec.convert(values, Job)
        except msgspec.ValidationError as error:
            path, fault = _fault(str(error), values)
            faults.append(fault)
            if not _taken_out(values, path):
                return faults, None


def _fault(said: str, values: dict[str, Any]) -> tuple[Path, str]:
    """What one validation error is about, and how to say it."""
    match = _PLACE.match(said)
    what, place = (match["what"], match["path"]) if match else (said, "")
    path: Path = tuple(name or int(index) for name, index in _STEP.findall(place or ""))
    named = _NAMED.search(what)
    if "unknown field" in what and named:
        known = [field.encode_name for field in msgspec.structs.fields(_record_at(values, path))]
        table = f"[{dotted(path)}]" if path else "the job"
        return (*path, named[1]), f'{table} has no key "{named[1]}"{nearest(named[1], known)}'
    if "missing required field" in what and named:
        return (), f'{dotted(path) or "the job"} has no "{named[1]}", which it needs'
    given = _at(values, path)
    kind = _kind_at(values, path)
    choices = [choice for choice in get_args(kind) if isinstance(choice, str)] if _origin(kind) is Literal else []
    near = get_close_matches(str(given), choices, 1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return path, f"{dotted(path)} is {_shown(given)}; expected {expected(kind)}{hint}"


def _taken_out(values: dict[str, Any], path: Path) -> bool:
    """Take out the value at a path; whether the rest can still be looked at."""
    if not path or path[-1] == "kind" or path in (("name",), ("data",), ("data", "train")):
        return False
    around = _at(values, path[:-1])
    del around[path[-1]]
    return not isinstance(around, list)  # the places of what follows in a list would no longer be the file's


def _at(values: Any, path: Path) -> Any:
    for step in path:
        values = values[step]
    return values


def _record_at(values: dict[str, Any], path: Path) -> type[Struct]:
    kind = _kind_at(values, path)
    return next(choice for choice in (kind, *get_args(kind)) if isinstance(choice, type) and issubclass(choice, Struct))


def _kind_at(values: Any, path: Path) -> Kind:
    """The type of what belongs at a path; of several records, the one whose kind the value says."""
    kind: Kind = Job
    for step in path:
        values = _at(values, (step,)) if isinstance(values, dict | list) else None
        if isinstance(step, int):
            lists = (choice for choice in (kind, *get_args(kind)) if _origin(choice) is tuple)
            kind = get_args(next(lists))[0]
            if isinstance(values, dict):
                kind = _kinds().get(str(values.get("kind")), kind)
        elif step == "kind":
            return Literal[tuple(_kinds())]
        else:
            record = next(choice for choice in (kind, *get_args(kind)) if hasattr(choice, "__struct_fields__"))
            kind = next(field.type for field in msgspec.structs.fields(record) if field.encode_name == step)
    return kind


def _kinds() -> dict[str, type[Struct]]:
    stages = get_args(next(field.type for field in msgspec.structs.fields(Job) if field.name == "stages"))[0]
    return {stage.__struct_config__.tag: stage for stage in get_args(stages)}


def expected(kind: Kind) -> str:
    """What a value of this type may be, in words."""
    origin = _origin(kind)
    if origin is Annotated:
        inner, *extras = get_args(kind)
        meta = next(extra for extra in extras if isinstance(extra, Meta))
        return meta.description or f"{expected(inner)}{_range(meta)}"
    if origin is Literal:
        return "one of " + ", ".join(msgspec.json.encode(choice).decode() for choice in get_args(kind))
    if origin is tuple:
        inner = get_args(kind)[0]
        return f"a list, each of {expected(inner)}" if _origin(inner) is Literal else f"a list of {_several(inner)}"
    if origin in (Union, UnionType):
        return " or ".join(expected(choice) for choice in get_args(kind) if choice is not type(None))
    return _PLAIN.get(kind, "a table")


def _origin(kind: Kind) -> object:
    return get_origin(kind)


def _several(kind: Kind) -> str:
    return {int: "whole numbers", float: "numbers", str: "texts"}.get(kind, "tables, each under [[...]]")


def _range(meta: Meta) -> str:
    bounds = (("from", meta.ge), ("above", meta.gt), ("to", meta.le), ("below", meta.lt))
    steps = f", in steps of {meta.multiple_of:g}" if meta.multiple_of is not None else ""
    return "".join(f" {word} {bound:g}" for word, bound in bounds if bound is not None) + steps


def _shown(given: object) -> str:
    text = str(given) if isinstance(given, float) else msgspec.json.encode(given, enc_hook=str).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


def _infinities(value: Any, path: Path) -> Iterator[str]:
    """TOML can say `inf`, and no figure of a job may be."""
    if isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from _infinities(getattr(value, name), (*path, name))
    elif isinstance(value, tuple):
        for index, below in enumerate(value):
            yield from _infinities(below, (*path, index))
    elif isinstance(value, float) and not isfinite(value):
        yield f"{dotted(path)} is {value}; expected a finite number"
