"""`farthing up`: serve the gateway."""

import os
import sys
from collections.abc import Iterator

import click
import msgspec
import uvloop

from farthing.cli.asking import Asked, verb
from farthing.cli.configured import configuration
from farthing.cli.listening import cannot_serve, pointers
from farthing.cli.render import answer, say
from farthing.config import Override
from farthing.wiring.parts import upstreams_of
from farthing.wiring.serving import serve
from farthing.wiring.workers import supervise

SIMULATED = "stub"
"""The name of the upstream that --stub adds."""


class Listening(msgspec.Struct, frozen=True):
    """A gateway that answers: its address, and the upstreams it asks."""

    url: str
    upstreams: list[str]


@click.command()
@click.option("--host", metavar="HOST", help="Where to listen, instead of server.host.")
@click.option("--port", metavar="PORT", help="Where to listen, instead of server.port; 0 takes any free port.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes that serve, instead of server.workers.")
@click.option("--provider", metavar="NAME", multiple=True, help="Ask this provider too, for every model; repeatable.")
@click.option("--stub", is_flag=True, help="Simulate answers to what no other upstream serves: no key, no network.")
@verb
def command(
    asked: Asked, host: str | None, port: str | None, workers: int | None, provider: tuple[str, ...], stub: bool
) -> None:
    """Serve the gateway until it is interrupted.

    Without any upstream in the configuration, OpenAI and Anthropic are asked with the callers' own keys.
    A provider's key comes from its usual variable, such as OPENAI_API_KEY.
    """
    settings = configuration(asked, list(_flags(host, port, workers, provider, stub))).settings
    listening = f"{settings.server.host}:{settings.server.port}"
    upstreams = list(upstreams_of(settings))
    try:
        if settings.server.workers > 1:
            sys.exit(supervise(settings, lambda url: _announce(asked, url, upstreams)))
        uvloop.run(serve(settings, os.environ, lambda gateway: _announce(asked, gateway.url, upstreams)))
    except OSError as error:
        raise cannot_serve(listening, error) from error


def _flags(
    host: str | None, port: str | None, workers: int | None, providers: tuple[str, ...], stub: bool
) -> Iterator[Override]:
    if host is not None:
        yield Override("server.host", host, "--host")
    if port is not None:
        yield Override("server.port", port, "--port")
    if workers is not None:
        yield Override("server.workers", str(workers), "--workers")
    for name in providers:
        yield Override(f"upstreams.{name}.provider", name, "--provider")
        yield Override(f"upstreams.{name}.models", "*", "--provider")
    if stub:
        yield Override(f"upstreams.{SIMULATED}.kind", "stub", "--stub")
        yield Override(f"upstreams.{SIMULATED}.models", "*", "--stub")


def _announce(asked: Asked, url: str, upstreams: list[str]) -> None:
    if asked.json:
        answer(asked, "farthing.up/1", Listening(url, upstreams), str)
    say(asked, f"Farthing answers at {url} and asks {', '.join(upstreams)}. Ctrl-C stops it.")
    say(asked, pointers(url))
