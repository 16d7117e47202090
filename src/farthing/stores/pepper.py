"""The pepper that keys are digested under, where the configuration names none: made once, kept in a file."""

import os
import secrets
from pathlib import Path
from tempfile import NamedTemporaryFile

from farthing.errors import ConfigError

PEPPER_BYTES = 32


def kept_pepper(path: Path) -> bytes:
    """The pepper in a file, which is made, for its owner only, where there is none; all that ask at once get the same.

    Raises ConfigError when it cannot be read or written, or has been emptied.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(path)
        pepper = bytes.fromhex(path.read_text("ascii"))
    except (OSError, ValueError) as error:
        hint = "Restore it from a backup: keys made under another pepper are not known under a new one."
        raise ConfigError(f"the pepper of the keys in {path} cannot be used: {error}", hint=hint) from error
    if len(pepper) < PEPPER_BYTES:
        raise ConfigError(f"the pepper in {path} has {len(pepper)} bytes instead of {PEPPER_BYTES}")
    return pepper


def _make(path: Path) -> None:
    """Write it whole, then give it its name, unless another process was first."""
    with NamedTemporaryFile(dir=path.parent, prefix=".pepper-") as file:  # mode 0600
        file.write(secrets.token_hex(PEPPER_BYTES).encode())
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            return
