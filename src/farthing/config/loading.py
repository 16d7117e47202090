"""Settings from a file, the environment and flags, each value with its origin."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import msgspec
from msgspec import Struct

from farthing.config.agreement import disagreements
from farthing.config.document import Document, Path, dotted, read_document
from farthing.config.settings import Settings
from farthing.config.shape import Fault, faults, is_single, kind_at, read, values
from farthing.errors import ConfigError

PREFIX = "FARTHING__"
DEFAULT_FILE = FilePath("farthing.toml")


class Override(Struct, frozen=True):
    """One setting given outside the file: its dotted name, the text given for it, and who gave it ("--port")."""

    setting: str
    text: str
    origin: str


class Loaded(Struct, frozen=True):
    """Settings, and for each by its dotted name where its value comes from.

    An origin is "default", "FILE:LINE", the name of a variable, or a flag. `file` is the one read, if any.
    """

    settings: Settings
    origin: dict[str, str]
    file: FilePath | None


def load(path: FilePath | None, environ: Mapping[str, str], flags: Sequence[Override] = ()) -> Loaded:
    """Read the configuration; a flag beats a variable (FARTHING__SECTION__KEY), which beats the file, then the default.

    The file is `path`, else the variable FARTHING_CONFIG, else ./farthing.toml where there is one.
    Raises ConfigError that lists every fault with its file and line.
    """
    file = _find(path, environ)
    document = _read(file) if file else Document({}, {})
    origins = {path: f"{file}:{line}" for path, line in document.lines.items()}
    found: list[Fault] = []
    for override in (*_from_environ(environ), *flags):
        found += _lay(override, document.values, origins)
    found += faults(Settings, document.values)
    if not found:
        settings = msgspec.convert(document.values, Settings)
        found += disagreements(settings)
    if found:
        raise ConfigError(
            "\n".join(f"{_place(fault.path, origins)}: {fault.message}" for fault in found),
            hint="docs/reference/configuration.md lists every setting and what it may be.",
        )
    origin = {dotted(path): origins.get(path, "default") for path, _, _ in values(settings)}
    return Loaded(settings, origin, file)


def _find(path: FilePath | None, environ: Mapping[str, str]) -> FilePath | None:
    if path:
        return path
    if named := environ.get("FARTHING_CONFIG"):
        return FilePath(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _read(file: FilePath) -> Document:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text (byte {error.start})", hint="Save it as UTF-8.") from None
    except OSError as error:
        hint = "Name a readable file with --config or FARTHING_CONFIG, or none to run on defaults."
        raise ConfigError(f"{file} cannot be read: {error.strerror}", hint=hint) from None
    return read_document(text, str(file))


def _from_environ(environ: Mapping[str, str]) -> Iterator[Override]:
    for variable, text in sorted(environ.items()):
        if variable.startswith(PREFIX):
            setting = variable.removeprefix(PREFIX).lower().replace("__", ".")
            yield Override(setting, text, variable)


def _lay(override: Override, tree: dict[str, Any], origins: dict[Path, str]) -> list[Fault]:
    """Put an override into the tree of values, and its origin beside it; what is wrong with its name, if anything."""
    path = _spelled_as_in(tree, override.setting)
    kind = kind_at(Settings, path)
    if isinstance(kind, Fault):
        origins[kind.path] = override.origin
        return [kind]
    origins[path] = override.origin
    if not is_single(kind):
        return [Fault(path, f"{dotted(path)} is not a single value; set it in the file")]
    for step in path[:-1]:
        tree = tree.setdefault(str(step), {})
        if not isinstance(tree, dict):
            return []
    tree[str(path[-1])] = read(kind, override.text)
    return []


def _spelled_as_in(tree: dict[str, Any], setting: str) -> Path:
    """The path of a dotted name, where a name in the file that differs in case or in - for _ is the one meant."""
    path: Path = ()
    level: object = tree
    for step in setting.split("."):
        known = level if isinstance(level, dict) else {}
        name = next((name for name in known if _folded(name) == _folded(step)), step)
        path = (*path, name)
        level = known.get(name)
    return path


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")


def _place(path: Path, origins: Mapping[Path, str]) -> str:
    """Where the value at a path was given, or failing that the nearest table around it."""
    return next((origins[path[:end]] for end in range(len(path), 0, -1) if path[:end] in origins), "configuration")
