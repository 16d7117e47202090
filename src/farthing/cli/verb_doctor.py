"""`farthing doctor`: find out what is wrong with this installation."""

from collections.abc import Iterator
from datetime import UTC, datetime

import click
import msgspec

from farthing.cli import checkup
from farthing.cli.asking import Asked, verb
from farthing.cli.checkup import Finding
from farthing.cli.configured import configuration
from farthing.cli.render import answer, coloured
from farthing.errors import ConfigError

MARKS = {"ok": ("ok  ", "green"), "warning": ("warn", "yellow"), "failure": ("FAIL", "red")}


class Health(msgspec.Struct, frozen=True):
    """Every finding; healthy when none is a failure."""

    healthy: bool
    findings: list[Finding]


@click.command()
@verb
def command(asked: Asked) -> None:
    """Find out what is wrong with this installation; exit 1 when something is.

    Looks at Python and its libraries, the configuration and its secrets, the ledger's directory and journal,
    the port, and the age of the prices. Contacts no provider.
    """
    health = _examined(asked)
    answer(asked, "farthing.doctor/1", health, _in_lines)
    click.get_current_context().exit(0 if health.healthy else 1)


def _examined(asked: Asked) -> Health:
    findings = list(_findings(asked))
    return Health(not any(finding.state == "failure" for finding in findings), findings)


def _findings(asked: Asked) -> Iterator[Finding]:
    yield from checkup.installation()
    try:
        loaded = configuration(asked)
    except ConfigError as error:
        yield Finding("configuration", "failure", error.message, error.hint)
        return
    yield from checkup.configured(loaded)
    yield from checkup.ledger_directory(loaded.settings)
    yield from checkup.journal(loaded.settings)
    yield from checkup.prices(loaded.settings, datetime.now(UTC).date())
    yield from checkup.port(loaded.settings.server)


def _in_lines(health: Health) -> str:
    return "\n".join(line for finding in health.findings for line in _lines(finding))


def _lines(finding: Finding) -> Iterator[str]:
    mark, colour = MARKS[finding.state]
    first, *more = finding.detail.splitlines()
    yield f"{coloured(mark, colour)}  {finding.check}: {first}"
    yield from (f"      {line}" for line in (*more, finding.hint) if line)
