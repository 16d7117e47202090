"""Secrets are named in the configuration and read only when they are needed."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from farthing.config.document import dotted
from farthing.config.settings import Settings
from farthing.config.shape import is_secret, values
from farthing.errors import ConfigError


def resolve_secret(reference: str, environ: Mapping[str, str]) -> str:
    """The secret that "env:NAME" or "file:/path" refers to, without surrounding white space; "" for "".

    Raises ConfigError when it is missing, empty, unreadable, or could not be sent in a header.
    """
    if not reference:
        return ""
    scheme, _, name = reference.partition(":")
    if scheme == "env":
        secret = environ.get(name, "").strip()
        hint = f"Set the variable {name} in the environment Farthing starts in."
    elif scheme == "file":
        secret = _read(name, reference)
        hint = f"Put the secret, and nothing else, into {name}."
    else:
        raise ConfigError("a secret is given by itself", hint='Write "env:NAME" or "file:/path" instead.')
    if not secret:
        raise ConfigError(f"{reference} is missing or empty", hint=hint)
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ConfigError(f"{reference} holds white space or characters that no header can carry", hint=hint)
    return secret


def _read(name: str, reference: str) -> str:
    try:
        return Path(name).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{reference} cannot be read: {reason}", hint="Check the path and its permissions.") from None


def references(settings: Settings) -> Iterator[tuple[str, str]]:
    """Every reference to a secret in the settings, by dotted name."""
    for path, kind, value in values(settings):
        if is_secret(kind) and value:
            yield dotted(path), value
