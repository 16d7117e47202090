"""Extras: packages that only some formats need, asked for when they are."""

from importlib import import_module
from typing import Any

from farthing.errors import ConfigError

INSTALL = "pip install 'farthing[generate]'"


def extra(name: str, what_for: str, hint: str = INSTALL) -> Any:
    """A package by the name it is imported under. Raises ConfigError when it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"{what_for} needs {name}, which cannot be imported: {error}", hint=hint) from None
