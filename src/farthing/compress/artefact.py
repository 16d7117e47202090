"""Artefacts on disk: written as a whole or not at all, and copied with proof."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from farthing.compress.workspace import require_room, seal, sync_folder, writing
from farthing.engines.artefacts import read_artefact, read_manifest
from farthing.errors import ConfigError
from farthing.schema import Artefact
from farthing.schema.artefact import MANIFEST

_PART = ".part"
_OLD = ".old"


def write_artefact(folder: Path, files: Mapping[str, Path | bytes], artefact: Artefact) -> Artefact:
    """Write an artefact's folder: the files by their names there, and `artefact.json` with their SHA-256.

    What `artefact.files` says is replaced. A folder that is there already is replaced only when it is an artefact
    itself, and nothing else lies in it. Raises ConfigError when it is not, and Unavailable when there is no room.
    """
    with _replacing(folder, _size(files)) as part:
        for name, content in files.items():
            if isinstance(content, bytes):
                (part / name).write_bytes(content)
            else:
                shutil.copyfile(content, part / name)
        seal(
            part,
            MANIFEST,
            lambda found: msgspec.json.format(msgspec.json.encode(replace(artefact, files=found)), indent=2),
        )
        return read_artefact(part)


def copy_artefact(source: Path, target: Path) -> Artefact:
    """Copy an artefact that is whole to another folder, and read it there again to prove that it is.

    Raises ConfigError when either is not, and Unavailable when there is no room.
    """
    artefact = read_artefact(source)
    if source.resolve() == target.resolve():
        raise ConfigError(f"{source} is to be copied onto itself.", hint="Name another folder.")
    return write_artefact(target, {name: source / name for name in artefact.files}, artefact)


@contextmanager
def _replacing(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A folder beside `folder` that takes its place when the block ends well, and is gone when it does not."""
    folder = folder.absolute()
    part, old = folder.with_name(f".{folder.name}{_PART}"), folder.with_name(f".{folder.name}{_OLD}")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _recover(folder, old)
        _refuse_others(folder)
        require_room(folder.parent, size_bytes)
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            yield part
            if folder.exists():
                folder.rename(old)
            part.rename(folder)
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _recover(folder: Path, old: Path) -> None:
    """Put back, or take away, the folder that was being replaced when the process was killed."""
    if old.exists():
        if folder.exists():
            shutil.rmtree(old)
        else:
            old.rename(folder)


def _refuse_others(folder: Path) -> None:
    """Raises ConfigError when a folder is there that holds anything but an artefact."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder} is a file, and an artefact is a folder.", hint="Name another place.")
    found = {path.name for path in folder.iterdir()}
    if not found:
        return
    hint = "Name another place, or move what is there."
    if MANIFEST not in found:
        raise ConfigError(f"{folder} is there already and is no artefact: it holds {_some(found)}.", hint=hint)
    try:
        known = read_manifest(folder).files
    except ConfigError as error:
        raise ConfigError(f"{folder} is there already, and {error.message}", hint=hint) from None
    strange = found - {MANIFEST, *known}
    if strange:
        raise ConfigError(f"{folder} holds what is not of its artefact and would be lost: {_some(strange)}.", hint=hint)


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _size(files: Mapping[str, Path | bytes]) -> int:
    return sum(len(content) if isinstance(content, bytes) else content.stat().st_size for content in files.values())
