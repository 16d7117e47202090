"""`farthing config`: show and check the configuration."""

import os
from typing import Literal

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.configured import configuration
from farthing.cli.figures import counted
from farthing.cli.render import answer, as_json
from farthing.config import Loaded, Settings, resolve_secret
from farthing.config.rendering import as_toml
from farthing.config.secrets import references
from farthing.errors import ConfigError

SecretState = Literal["resolves", "missing"]


class Shown(msgspec.Struct, frozen=True):
    """The settings in force; `origin` and `secrets` are by dotted name."""

    file: str | None
    settings: Settings
    origin: dict[str, str]
    secrets: dict[str, SecretState]


class Checked(msgspec.Struct, frozen=True):
    """What a sound configuration holds."""

    file: str | None
    upstreams: int
    routes: int
    keys: int


@click.group()
def command() -> None:
    """Show and check the configuration."""


@command.command()
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@verb
def show(asked: Asked, origin: bool) -> None:
    """Print every setting in force, as TOML. Secrets stay references."""
    answer(
        asked,
        "farthing.config/1",
        _shown(configuration(asked)),
        lambda shown: as_toml(shown.settings, _notes(shown, origin)),
    )


@command.command()
@verb
def check(asked: Asked) -> None:
    """Say whether the configuration can be used.

    When it cannot, prints every fault and exits 2.
    """
    loaded = configuration(asked)
    if any(upstream.kind == "embedded" for upstream in loaded.settings.upstreams.values()):
        from farthing.wiring.embedding import check_embedded

        check_embedded(loaded.settings)
    answer(asked, "farthing.config.check/1", _checked(loaded), _in_a_line)


@command.command()
@verb
def schema(asked: Asked) -> None:
    """Print the JSON Schema of farthing.toml, for editors that complete."""
    click.echo(as_json(msgspec.json.schema(Settings)))


def _shown(loaded: Loaded) -> Shown:
    states = {name: _state(reference) for name, reference in references(loaded.settings)}
    return Shown(str(loaded.file) if loaded.file else None, loaded.settings, loaded.origin, states)


def _state(reference: str) -> SecretState:
    try:
        resolve_secret(reference, os.environ)
    except ConfigError:
        return "missing"
    return "resolves"


def _notes(shown: Shown, origin: bool) -> dict[str, str]:
    where = shown.origin if origin else {}
    names = {**where, **shown.secrets}
    return {name: ", ".join(filter(None, (where.get(name), shown.secrets.get(name)))) for name in names}


def _checked(loaded: Loaded) -> Checked:
    settings = loaded.settings
    file = str(loaded.file) if loaded.file else None
    return Checked(file, len(settings.upstreams), len(settings.routes), len(settings.keys))


def _in_a_line(checked: Checked) -> str:
    counts = ", ".join(
        (counted(checked.upstreams, "upstream"), counted(checked.routes, "route"), counted(checked.keys, "key"))
    )
    return f"{checked.file or 'no file, defaults only'}: sound ({counts})"
