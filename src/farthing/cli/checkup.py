"""What can be wrong with an installation: each check looks at one thing and says what it found."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from datetime import date
from errno import EADDRINUSE
from http.client import HTTPConnection, HTTPException
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import msgspec

from farthing.cli.figures import counted
from farthing.config import Loaded, Server, Settings, resolve_secret
from farthing.config.secrets import references
from farthing.errors import ConfigError
from farthing.stores.price_files import current_book
from farthing.stores.segments import verify_journal
from farthing.wiring.parts import upstreams_of
from farthing.wiring.shared import journals

OLDEST_PYTHON = (3, 11)
LIBRARIES = (
    "blake3", "click", "httptools", "jinja2", "msgspec", "prometheus-client", "rich", "starlette", "tzdata",
    "uvloop",
)  # fmt: skip
LITTLE_SPACE = 1024**3
"""Bytes free below which a ledger is soon in trouble: about five million entries."""
NO_SPACE = 64 * 1024**2
OLD_PRICES_DAYS = 60

State = Literal["ok", "warning", "failure"]


class Finding(msgspec.Struct, frozen=True):
    """What one check found; `hint` says what to do about it when it is not ok."""

    check: str
    state: State
    detail: str
    hint: str = ""


def installation() -> Iterator[Finding]:
    """Python and the libraries."""
    running = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        yield Finding("python", "failure", running, "Farthing needs Python 3.11 or newer.")
    else:
        yield Finding("python", "ok", running)
    for name in LIBRARIES:
        try:
            yield Finding(f"library {name}", "ok", version(name))
        except PackageNotFoundError:
            yield Finding(f"library {name}", "failure", "not installed", "Install Farthing again.")


def configured(loaded: Loaded) -> Iterator[Finding]:
    """The configuration: its file, its upstreams, its secrets."""
    settings = loaded.settings
    yield Finding("configuration", "ok", str(loaded.file or "defaults, no file"))
    names = ", ".join(upstreams_of(settings))
    if settings.upstreams:
        yield Finding("upstreams", "ok", names)
    else:
        hint = "Callers bring their own keys. To use yours, add [upstreams.NAME], or run `farthing up --provider NAME`."
        yield Finding("upstreams", "ok", f"{names} (none is configured)", hint)
    for name, reference in references(settings):
        try:
            resolve_secret(reference, os.environ)
        except ConfigError as error:
            yield Finding(f"secret {name}", "failure", error.message, error.hint)
        else:
            yield Finding(f"secret {name}", "ok", f"{reference} resolves")


def ledger_directory(settings: Settings) -> Iterator[Finding]:
    """Whether the ledger can be written, and the space there is."""
    directory = Path(settings.ledger.path).expanduser().absolute()
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        yield Finding(
            "ledger directory", "failure", f"{nearest} is not a directory that can be written", "Set ledger.path."
        )
        return
    free = shutil.disk_usage(nearest).free
    state: State = "failure" if free < NO_SPACE else "warning" if free < LITTLE_SPACE else "ok"
    hint = "" if state == "ok" else "Free some space, or set ledger.path to another disk."
    new = "" if directory.exists() else ", to be made"
    yield Finding("ledger directory", state, f"{directory}{new}; {free / 1024**3:.1f} GiB free", hint)


def journal(settings: Settings) -> Iterator[Finding]:
    """Whether every record of the journal is as it was written."""
    found = journals(settings)
    if not found:
        yield Finding("journal", "ok", "none yet")
        return
    problems = [problem for directory, _ in found for problem in verify_journal(directory)]
    if problems:
        hint = "Restore it from a backup; `farthing ledger verify` says more."
        yield Finding("journal", "failure", "\n".join(problems), hint)
    else:
        yield Finding("journal", "ok", "every record matches its checksum")


def prices(settings: Settings, today: date) -> Iterator[Finding]:
    """Whether the price book can be read, and how old it is."""
    try:
        book = current_book(settings.prices.overrides)
    except ConfigError as error:
        yield Finding("prices", "failure", error.message, error.hint)
        return
    days = (today - date.fromisoformat(book.edition.as_of)).days
    detail = f"edition {book.version}, {counted(days, 'day')} old"
    if days > OLD_PRICES_DAYS:
        hint = "Prices change monthly: update Farthing, or name newer rows in prices.overrides."
        yield Finding("prices", "warning", detail, hint)
    else:
        yield Finding("prices", "ok", detail)


def port(server: Server) -> Iterator[Finding]:
    """Whether the gateway can listen, or already does."""
    address = f"{server.host}:{server.port}"
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((server.host.strip("[]"), server.port))
        except OSError as error:
            if error.errno == EADDRINUSE and _is_gateway(server):
                yield Finding("port", "ok", f"a gateway answers at {address}")
            else:
                hint = "Choose another with --port or server.port."
                yield Finding("port", "failure", f"cannot listen at {address}: {error.strerror or error}", hint)
        else:
            yield Finding("port", "ok", f"{address} is free")


def _is_gateway(server: Server) -> bool:
    connection = HTTPConnection(server.host.strip("[]"), server.port, timeout=1)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
