"""Keys made, revoked and rotated. A key itself is returned once, and nothing kept could tell it."""

import re
import secrets
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from itertools import count
from typing import get_args

import msgspec

from farthing.errors import Forbidden, RequestError
from farthing.gateway.keyring import PREDECESSOR, digest_of, lapse, lineage
from farthing.gateway.scopes import excess, matches
from farthing.ports import KeyStore
from farthing.schema import Endpoint, GatewayKey

PREFIX = "fk-"
SECRET_BYTES = 32
ENDING = 4
"""Characters of a key that are kept for people to tell keys apart."""

LONGEST = 200
"""Characters in a name or pattern."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
ENDPOINTS: tuple[str, ...] = get_args(Endpoint)


class Wish(msgspec.Struct, frozen=True):
    """What a new key is to be. What is left out is its parent's, or unrestricted; `expires` is in Unix ns."""

    name: str
    tenant: str = ""
    team: str = ""
    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    parent: str = ""
    expires: int | None = None


class Issuer:
    """Makes, revokes and rotates the keys of a store; instants are in Unix ns.

    Every method raises `StoreError` when the store cannot be used.
    """

    def __init__(self, store: KeyStore, pepper: bytes, reserved: Collection[str] = ()) -> None:
        """`reserved` are the names of the keys in the configuration."""
        self._store = store
        self._pepper = pepper
        self._reserved = reserved

    def make(self, wish: Wish, now: int) -> tuple[GatewayKey, str]:
        """A new key, and what its caller is to send.

        Raises RequestError for a name that is taken or impossible, Forbidden when it would exceed its parent.
        """
        self._check_words(wish)
        parent = self._live(wish.parent, now) if wish.parent else GatewayKey("", "")
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        key = GatewayKey(
            name=wish.name,
            digest=digest_of(self._pepper, secret.encode()),
            ending=secret[-ENDING:],
            tenant=wish.tenant or parent.tenant,
            team=wish.team or parent.team,
            models=wish.models or parent.models,
            endpoints=wish.endpoints or parent.endpoints,
            parent=wish.parent,
            created=now,
            expires=parent.expires if wish.expires is None else wish.expires,
        )
        if more := excess(key, parent) if wish.parent else []:
            raise Forbidden(
                f'The key "{key.name}" may do no more than its parent "{parent.name}", and asks for {"; ".join(more)}.',
                hint="Ask for less, or choose another parent.",
            )
        self._store.add(key)
        return key, secret

    def revoke(self, name: str, now: int) -> GatewayKey:
        """End a key, its predecessors and every key under it, from now on. One that is revoked already stays so."""
        key = self._find(name)
        if key.revoked is None:
            key = msgspec.structs.replace(key, revoked=now)
            self._store.change(key)
        return key

    def rotate(self, name: str, now: int, grace: int = 0) -> tuple[GatewayKey, str]:
        """Give a key another value, and what its caller is to send now; the old one works for `grace` ns longer.

        The old value is kept as a key under the new one, by the name of "NAME~1": what ends one ends the other.
        Raises RequestError when the key is not in force.
        """
        key = self._live(name, now)
        if grace:
            taken = self._by_name()
            names = (f"{name}{PREDECESSOR}{number}" for number in count(1))
            old = msgspec.structs.replace(
                key,
                name=next(free for free in names if free not in taken),
                parent=name,
                expires=min(now + grace, key.expires or now + grace),
            )
            self._store.add(old)
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        key = msgspec.structs.replace(key, digest=digest_of(self._pepper, secret.encode()), ending=secret[-ENDING:])
        self._store.change(key)
        return key, secret

    def _check_words(self, wish: Wish) -> None:
        if not NAME.fullmatch(wish.name):
            raise RequestError(
                f'A key cannot be called "{wish.name[:LONGEST]}".', hint="Use up to 64 letters, digits, - and _."
            )
        if wish.name in self._reserved:
            raise RequestError(
                f"[keys.{wish.name}] in the configuration has that name, and would be in force instead of this key.",
                hint="Choose another name.",
            )
        for text in (wish.tenant, wish.team, *wish.models):
            if len(text) > LONGEST or not text.isprintable():
                raise RequestError(f'"{text[:LONGEST]}" is too long (more than {LONGEST}) or not printable.')
        for pattern in wish.endpoints:
            if not any(matches(pattern, endpoint) for endpoint in ENDPOINTS):
                raise RequestError(f'There is no endpoint "{pattern}".', hint=f"There are {', '.join(ENDPOINTS)}.")

    def _find(self, name: str) -> GatewayKey:
        if name in self._reserved:
            raise RequestError(
                f'The key "{name}" stands in the configuration.', hint=f"Change [keys.{name}] there instead."
            )
        keys = self._by_name()
        if name in keys and PREDECESSOR not in name:
            return keys[name]
        near = get_close_matches(name, [known for known in keys if PREDECESSOR not in known], 1)
        hint = f'Did you mean "{near[0]}"?' if near else "See `farthing key list`."
        raise RequestError(f'There is no key "{name}" made by `farthing key new`.', hint=hint)

    def _live(self, name: str, now: int) -> GatewayKey:
        key = self._find(name)
        if reason := lapse(lineage(key, self._by_name()), now):
            raise RequestError(f'The key "{name}" {reason}.', hint="Make a new one with `farthing key new`.")
        return key

    def _by_name(self) -> dict[str, GatewayKey]:
        return {key.name: key for key in self._store.keys()}  # noqa: SIM118 (it is a store, no mapping)


def states(keys: Sequence[GatewayKey], now: int) -> dict[str, str]:
    """Of each key by name, why it is not in force, or "" when it is."""
    by_name = {key.name: key for key in keys}
    return {key.name: lapse(lineage(key, by_name), now) for key in keys}
