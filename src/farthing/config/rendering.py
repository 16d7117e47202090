"""Settings written as the TOML that would give them."""

from collections.abc import Mapping
from itertools import groupby

import msgspec

from farthing.config.document import Path, dotted
from farthing.config.settings import Settings
from farthing.config.shape import values


def as_toml(settings: Settings, notes: Mapping[str, str]) -> str:
    """Settings as a TOML document that loads to the same settings, with a comment on each value noted by dotted name.

    References to secrets are written as references.
    """
    lines: list[str] = []
    for table, group in groupby(values(settings), key=lambda value: value[0][:-1]):
        lines += ["", _header(table)] if lines else [_header(table)]
        for path, _, value in group:
            if value is None:
                continue
            line, note = f"{path[-1]} = {in_toml(value)}", notes.get(dotted(path))
            lines.append(f"{line:<44}  # {note}" if note else line)
    return "\n".join(lines) + "\n"


def in_toml(value: object) -> str:
    """A single value as TOML."""
    if isinstance(value, tuple):
        return f"[{', '.join(in_toml(item) for item in value)}]"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007F")
    return str(value).lower()


def _header(table: Path) -> str:
    return f"[[{table[0]}]]" if isinstance(table[-1], int) else f"[{dotted(table)}]"
