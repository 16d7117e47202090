"""An artefact's folder: what it says it holds, and whether that is what lies in it."""

from hashlib import file_digest
from pathlib import Path
from typing import Final

import msgspec

from farthing.errors import ConfigError
from farthing.schema import Artefact
from farthing.schema.artefact import MANIFEST, MODEL, TOKENIZER

FORMAT: Final = 1
_NEEDED: Final = (MODEL, TOKENIZER)
_AGAIN: Final = "Copy the folder again from where it was made, or make it again with `farthing compress run`."
_MANIFEST: Final = msgspec.json.Decoder(Artefact)


def read_artefact(folder: Path) -> Artefact:
    """What a folder holds, once the SHA-256 of every file it names was found to be right.

    Raises ConfigError: which file, what was expected of it and what was found.
    """
    artefact = read_manifest(folder)
    for name in sorted({*artefact.files, *_NEEDED}):
        _verify(folder, name, artefact.files.get(name, ""))
    return artefact


def read_manifest(folder: Path) -> Artefact:
    """What a folder says that it holds; its other files are not looked at. Raises ConfigError."""
    file = folder / MANIFEST
    try:
        artefact = _MANIFEST.decode(file.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{folder} is no artefact: {MANIFEST} cannot be read ({error.strerror}).",
            hint="Name the folder that `farthing compress run` wrote.",
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}.", hint=_AGAIN) from None
    if artefact.format != FORMAT:
        raise ConfigError(
            f"{file} has format {artefact.format}; this version of Farthing reads format {FORMAT}.",
            hint="Update Farthing, or make the artefact again with this version.",
        )
    if reason := _senseless(artefact):
        raise ConfigError(f"{file} makes no sense: {reason}.", hint=_AGAIN)
    return artefact


def _senseless(artefact: Artefact) -> str:
    if not artefact.name:
        return "it gives the model no name"
    if artefact.max_length < 1:
        return f"max_length is {artefact.max_length}; it must be 1 or more"
    if not artefact.temperature > 0:
        return f"temperature is {artefact.temperature:g}; it must be above 0"
    if not 0 <= artefact.threshold <= 1:
        return f"threshold is {artefact.threshold:g}; it must be from 0 to 1"
    if artefact.task != "embedding" and not artefact.labels:
        return f"a model for {artefact.task} needs labels, and it has none"
    if len(set(artefact.labels)) < len(artefact.labels):
        twice = next(label for label in artefact.labels if artefact.labels.count(label) > 1)
        return f'the label "{twice}" is there {artefact.labels.count(twice)} times'
    return ""


def _verify(folder: Path, name: str, expected: str) -> None:
    file = folder / name
    if Path(name).name != name:
        raise ConfigError(f'{folder / MANIFEST} names a file outside its folder: "{name}".', hint=_AGAIN)
    try:
        with file.open("rb") as opened:
            found = file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.", hint=_AGAIN) from None
    if not expected:
        raise ConfigError(f"{folder / MANIFEST} holds no SHA-256 of {name}, so it cannot be trusted.", hint=_AGAIN)
    if found != expected.lower():
        raise ConfigError(
            f"{file} is not the file that {MANIFEST} was written for: expected SHA-256 {expected}, found {found}.",
            hint=_AGAIN,
        )
