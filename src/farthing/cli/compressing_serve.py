"""`farthing compress serve`: a gateway over one model that a run made."""

import os
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import uvloop
from msgspec.structs import replace

from farthing.cli.asking import Asked, verb
from farthing.cli.configured import configuration
from farthing.cli.listening import cannot_serve, pointers
from farthing.cli.render import answer, say
from farthing.config import Override, Settings, Upstream
from farthing.engines.artefacts import read_artefact
from farthing.schema import Artefact
from farthing.wiring.serving import serve

NAME = "student"
"""What the upstream is called in the ledger."""


class Serving(msgspec.Struct, frozen=True):
    """A gateway that answers: its address, and the model that does."""

    url: str
    model: str
    task: str
    labels: int


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--host", metavar="HOST", help="Where to listen, instead of server.host.")
@click.option("--port", metavar="PORT", help="Where to listen, instead of server.port; 0 takes any free port.")
@verb
def command(asked: Asked, folder: Path, host: str | None, port: str | None) -> None:
    """Serve the model in DIR, and nothing else, until it is interrupted.

    The configuration in force holds (ledger, keys, budgets), except for its upstreams and routes. To serve it beside
    large models, give the configuration an upstream with kind = "embedded" and folder = DIR.
    """
    settings = configuration(asked, list(_flags(host, port))).settings
    artefact = read_artefact(folder)
    alone = only(settings, folder, artefact)
    listening = f"{settings.server.host}:{settings.server.port}"
    try:
        uvloop.run(serve(alone, os.environ, lambda gateway: _announce(asked, gateway.url, artefact)))
    except OSError as error:
        raise cannot_serve(listening, error) from error


def only(settings: Settings, folder: Path, artefact: Artefact) -> Settings:
    """Settings under which the model in `folder` is all that is asked, in this one process."""
    upstream = Upstream(kind="embedded", folder=str(folder.absolute()), models=(artefact.name,))
    return replace(settings, upstreams={NAME: upstream}, routes=(), server=replace(settings.server, workers=1))


def _flags(host: str | None, port: str | None) -> Iterator[Override]:
    if host is not None:
        yield Override("server.host", host, "--host")
    if port is not None:
        yield Override("server.port", port, "--port")


def _announce(asked: Asked, url: str, artefact: Artefact) -> None:
    if asked.json:
        answer(
            asked, "farthing.compress.serve/1", Serving(url, artefact.name, artefact.task, len(artefact.labels)), str
        )
    say(asked, f"Farthing answers at {url} with {artefact.name} ({artefact.task}). Ctrl-C stops it.")
    say(asked, pointers(url))
