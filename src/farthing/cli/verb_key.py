"""`farthing key`: make, list, revoke and rotate the keys that callers bring."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import time_ns

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.configured import configuration
from farthing.cli.figures import counted
from farthing.cli.render import answer, say, table
from farthing.cli.when import shown, span
from farthing.config import Settings
from farthing.gateway.issuing import Issuer, Wish, states
from farthing.ports import KeyStore
from farthing.schema import GatewayKey
from farthing.wiring.parts import key_store_of, pepper_of


class Line(msgspec.Struct, frozen=True):
    """A key as it is listed; `state` is "in force", or why it is not. Instants are Unix ns, `null` for never."""

    name: str
    state: str
    ending: str
    tenant: str
    team: str
    models: tuple[str, ...]
    endpoints: tuple[str, ...]
    parent: str
    created: int
    expires: int | None
    revoked: int | None


class Made(msgspec.Struct, frozen=True):
    """A key and, this once, what its caller is to send."""

    key: Line
    secret: str


class Revoked(msgspec.Struct, frozen=True):
    """A key that is no longer in force, and the names of those that ended with it."""

    key: Line
    ended: list[str]


class Listed(msgspec.Struct, frozen=True):
    """Every key that was ever made."""

    keys: list[Line]


@click.group()
def command() -> None:
    """Make, list, revoke and rotate the keys that callers bring.

    A gateway that runs on the same ledger or shared store follows within a second.
    """


@command.command()
@click.argument("name")
@click.option("--tenant", metavar="NAME", default="", help="Whom its calls are billed to.")
@click.option("--team", metavar="NAME", default="", help="Likewise, within the tenant.")
@click.option("--model", "models", metavar="PATTERN", multiple=True, help="A model it may ask, * matching any text.")
@click.option("--endpoint", "endpoints", metavar="NAME", multiple=True, help="An endpoint it may use, such as chat.")
@click.option("--parent", metavar="KEY", default="", help="A key that it may do no more than, and ends with.")
@click.option("--expires", metavar="SPAN", help="How long it is in force, such as 30d; for ever when left out.")
@verb
def new(asked: Asked, name: str, expires: str | None, **wanted: object) -> None:
    """Make a key called NAME and print it, this once.

    What is left out is as with its parent, or unrestricted. --model and --endpoint may be repeated.
    """
    now = time_ns()
    until = now + span(expires) if expires else None
    with _issuing(asked) as (issuer, store):
        key, secret = issuer.make(msgspec.convert({"name": name, "expires": until, **wanted}, Wish), now)
        _tell(asked, "farthing.key.new/1", Made(_line(key, store), secret))


@command.command(name="list")
@verb
def list_keys(asked: Asked) -> None:
    """Print every key that was made, revoked ones too, but never a key itself."""
    with _keys(configuration(asked).settings) as store:
        answer(asked, "farthing.key.list/1", Listed(_lines(store.keys())), _in_rows)


@command.command()
@click.argument("name")
@verb
def revoke(asked: Asked, name: str) -> None:
    """End the key NAME, and every key under it, for good."""
    with _issuing(asked) as (issuer, store):
        before = {line.name for line in _lines(store.keys()) if line.state == IN_FORCE}
        key = issuer.revoke(name, time_ns())
        ended = [line.name for line in _lines(store.keys()) if line.name in before and line.state != IN_FORCE]
        answer(asked, "farthing.key.revoke/1", Revoked(_line(key, store), ended), _ended)


@command.command()
@click.argument("name")
@click.option("--grace", metavar="SPAN", help="How much longer the old value works, such as 24h; ends at once without.")
@verb
def rotate(asked: Asked, name: str, grace: str | None) -> None:
    """Give the key NAME another value and print it, this once. Its scope, budgets and history go on."""
    with _issuing(asked) as (issuer, store):
        key, secret = issuer.rotate(name, time_ns(), span(grace) if grace else 0)
        _tell(asked, "farthing.key.rotate/1", Made(_line(key, store), secret))


IN_FORCE = "in force"


@contextmanager
def _keys(settings: Settings) -> Iterator[KeyStore]:
    store = key_store_of(settings, os.environ)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _issuing(asked: Asked) -> Iterator[tuple[Issuer, KeyStore]]:
    settings = configuration(asked).settings
    with _keys(settings) as store:
        yield Issuer(store, pepper_of(settings, os.environ), settings.keys), store


def _lines(keys: list[GatewayKey]) -> list[Line]:
    reasons = states(keys, time_ns())
    return [
        Line(
            **{field: getattr(key, field) for field in Line.__struct_fields__ if field != "state"},
            state=reasons[key.name] or IN_FORCE,
        )
        for key in keys
    ]


def _line(key: GatewayKey, store: KeyStore) -> Line:
    return next(line for line in _lines(store.keys()) if line.name == key.name)


def _tell(asked: Asked, schema: str, made: Made) -> None:
    answer(asked, schema, made, lambda made: made.secret)
    say(asked, f"This is the key {made.key.name}. It is shown this once, and kept nowhere.")


def _ended(revoked: Revoked) -> str:
    others = [name for name in revoked.ended if name != revoked.key.name]
    also = f", and with it {', '.join(others)}" if others else ""
    return f"the key {revoked.key.name} has been revoked{also}"


def _in_rows(listed: Listed) -> str:
    if not listed.keys:
        return "no keys; `farthing key new NAME` makes one"
    heads = ("key", "ends in", "tenant", "team", "models", "endpoints", "parent", "made", "until", "state")
    rows = [
        (
            line.name,
            line.ending,
            line.tenant,
            line.team,
            ", ".join(line.models),
            ", ".join(line.endpoints),
            line.parent,
            shown(line.created)[:10],
            shown(line.expires) if line.expires is not None else "",
            line.state,
        )
        for line in listed.keys
    ]
    return f"{table(heads, rows, labels=len(heads))}\n\n{counted(len(rows), 'key')}"
