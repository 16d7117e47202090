"""What every verb may be asked for: a configuration file, silence, JSON."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class Asked:
    """The options that were given before or after the verb."""

    config: Path | None = None
    quiet: bool = False
    json: bool = False


def _note(context: click.Context, option: click.Parameter, value: object) -> None:
    if value:
        setattr(context.ensure_object(Asked), str(option.name), value)


with_config = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=_note,
    expose_value=False,
    help="The configuration; else $FARTHING_CONFIG, else ./farthing.toml.",
)
quietly = click.option(
    "-q", "--quiet", is_flag=True, callback=_note, expose_value=False, help="Say nothing about progress."
)
_as_json = click.option("--json", is_flag=True, callback=_note, expose_value=False, help="Print JSON.")
_pass_asked = click.make_pass_decorator(Asked, ensure=True)


def verb(function: Callable[..., None]) -> Callable[..., Any]:
    """Give a command the options that every verb has, as an `Asked` before its own."""
    return with_config(quietly(_as_json(_pass_asked(function))))
