"""Whose call it is: gateway keys by digest, so that no secret is kept or compared in the open."""

import asyncio
import hmac
import logging
from collections.abc import Mapping, Sequence

import msgspec
from blake3 import blake3

from farthing.errors import StoreError, Unauthorized
from farthing.gateway.scopes import Scope, scope_of
from farthing.ports import Clock, KeyStore
from farthing.schema import Caller, GatewayKey

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.3
"""How often the store is asked whether keys have changed."""

PREDECESSOR = "~"
"""Stands between the name of a key and the number of a predecessor, still in force for a while after a rotation."""

HIDDEN = "has the name of a key in the gateway's configuration, which is in force instead of it"
UNBOUND = Scope("")


def digest_of(pepper: bytes, secret: bytes) -> str:
    """The digest by which a key is known: HMAC-SHA256 under the pepper, in hexadecimal."""
    return hmac.digest(pepper, secret, "sha256").hex()


def lineage(key: GatewayKey, keys: Mapping[str, GatewayKey]) -> list[GatewayKey] | None:
    """A key and all above it, itself first; `None` when one of them is missing or its own ancestor."""
    line = [key]
    while parent := line[-1].parent:
        if parent not in keys or keys[parent] in line:
            return None
        line.append(keys[parent])
    return line


def lapse(line: Sequence[GatewayKey] | None, now: int) -> str:
    """Why a key is not in force at an instant (Unix ns), as the end of a sentence; empty when it is."""
    if line is None:
        return "has no parent any more"
    for key in line:
        whose = "" if key is line[0] else f'is under the key "{key.name}", which '
        if key.revoked is not None:  # whatever the clock of who did it said
            return f"{whose}has been revoked"
        if key.expires is not None and key.expires <= now:
            return (
                f"{whose}has expired" if PREDECESSOR not in key.name else "has been rotated, and this is its old value"
            )
    return ""


class Standing(msgspec.Struct, frozen=True, gc=False):
    """Who brought a credential, and the instant (Unix ns) from which it no longer is; `None` for never."""

    caller: Caller
    until: int | None = None


class _Known(msgspec.Struct, frozen=True, gc=False):
    """A key as read: what it stands for, while it is `live`, until it expires; or why (`barred`) it never does."""

    digest: str
    line: list[GatewayKey] | None
    standing: Standing
    scope: Scope
    barred: str
    live: bool


class _Snapshot(msgspec.Struct, frozen=True):
    """The keys as last read. `revision` counts the readings; `stored` is the store's own, `None` while unread."""

    revision: int
    stored: int | None
    authenticates: bool
    by_digest: dict[str, _Known]
    by_name: dict[str, _Known]


class Keyring:
    """Gateway keys, those of the configuration and a snapshot of those in a store, and the callers they stand for.

    Without any, every caller is let in as it is; once there was one, callers need one. It fails closed: while the store
    does not answer, the snapshot goes on, and whether a key that is not in it is one cannot be told. A key of the
    configuration hides a stored one of its name, which then stands for nobody.
    """

    def __init__(
        self,
        configured: Sequence[GatewayKey],
        pepper: bytes,
        store: KeyStore | None,
        clock: Clock,
        *,
        required: bool = False,
    ) -> None:
        """`required`: callers need a key even while there is none yet."""
        self._configured = tuple(configured)
        self._pepper = pepper
        self._store = store
        self._clock = clock
        self._needed = required or bool(configured)
        self._failing = False
        self._snapshot = self._read(0, [], None if store else 0)
        self.refresh()

    @property
    def authenticates(self) -> bool:
        """Whether callers must bring a key."""
        return self._snapshot.authenticates

    @property
    def revision(self) -> int:
        """Another number whenever what was learnt from this keyring may no longer hold."""
        return self._snapshot.revision

    def holds(self, standing: Standing, revision: int) -> bool:
        """Whether a caller still is who it was found to be at a revision."""
        until = standing.until
        return revision == self._snapshot.revision and (until is None or self._clock.now() < until)

    def identify(self, credential: bytes) -> Standing:
        """The caller a credential stands for.

        Raises Unauthorized when callers need a key and this is none in force, StoreError when that cannot be told at
        present. Without keys, the caller is known by the fingerprint of the credential it brought for the provider.
        """
        snapshot = self._snapshot
        if not snapshot.authenticates:
            return Standing(Caller(key=f"own-{blake3(credential).hexdigest()[:12]}") if credential else Caller())
        if not credential and snapshot.stored is not None:
            raise Unauthorized(
                "This gateway needs one of its own keys and the request carried none.",
                hint='Send "Authorization: Bearer KEY" (or "x-api-key: KEY") with a key made by `farthing key new`.',
            )
        digest = digest_of(self._pepper, credential)
        known = snapshot.by_digest.get(digest)
        if known is None or not hmac.compare_digest(known.digest, digest):
            raise self._unknown()
        self._bar(known)
        return known.standing

    def scope_of(self, name: str) -> Scope:
        """What the key of that name may do. Raises Unauthorized when it is not in force (any more)."""
        snapshot = self._snapshot
        if not snapshot.authenticates:
            return UNBOUND
        known = snapshot.by_name.get(name)
        if known is None:
            raise self._unknown()
        self._bar(known)
        return known.scope

    async def watch(self) -> None:
        """Follow the store until cancelled, so that a change is in force within a second."""
        while self._store is not None:
            await asyncio.sleep(WATCH_SECONDS)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Read the keys again if they changed; a line is logged when the store stops answering, and when it is back."""
        if self._store is None:
            return
        before = self._snapshot
        try:
            stored = self._store.revision()
            if stored != before.stored:
                self._snapshot = self._read(before.revision + 1, self._store.keys(), stored)
        except StoreError as error:
            if not self._failing:
                log.error("The key store does not answer; the keys known so far go on: %s", error)
            self._failing = True
        else:
            if self._failing:
                log.warning("The key store answers again.")
            self._failing = False

    def _read(self, revision: int, stored: Sequence[GatewayKey], number: int | None) -> _Snapshot:
        if number:
            self._needed = True  # for good: a store that is found empty later does not open the gateway
        taken = {key.name for key in self._configured}
        keys = {key.name: key for key in stored}
        known = [_known(key, [key]) for key in self._configured]
        known += [_known(key, lineage(key, keys), HIDDEN if _root(key.name) in taken else "") for key in stored]
        by_digest: dict[str, _Known] = {}
        by_name: dict[str, _Known] = {}
        for one, key in zip(known, (*self._configured, *stored), strict=True):
            by_digest.setdefault(key.digest, one)
            by_name.setdefault(key.name, one)
        return _Snapshot(revision, number, self._needed or number is None, by_digest, by_name)

    def _unknown(self) -> Unauthorized | StoreError:
        if self._failing:
            return StoreError(
                "The key store does not answer, so that this key cannot be looked up.",
                hint="Ask again in a moment; keys that were in use before go on.",
                retry_after=1.0,
            )
        return Unauthorized(
            "The key sent with this request is not one of this gateway's keys.",
            hint="Provider keys stay in the gateway's configuration; callers use keys made by `farthing key new`.",
        )

    def _bar(self, known: _Known) -> None:
        until = known.standing.until
        if known.live and (until is None or self._clock.now() < until):
            return
        reason = known.barred or lapse(known.line, self._clock.now())
        raise Unauthorized(f'The key "{known.scope.name}" {reason}.', hint="Ask whoever runs this gateway for another.")


def _known(key: GatewayKey, line: list[GatewayKey] | None, barred: str = "") -> _Known:
    above = line or [key]
    name = _root(key.name)
    tenant = next((one.tenant for one in reversed(above) if one.tenant), "")
    team = next((one.team for one in reversed(above) if one.team), "")
    until = min((one.expires for one in above if one.expires is not None), default=None)
    standing = Standing(Caller(tenant=tenant, team=team, key=name), until)
    live = not barred and line is not None and all(one.revoked is None for one in line)
    return _Known(key.digest, line, standing, scope_of(name, above), barred, live)


def _root(name: str) -> str:
    """The name that a key's calls are entered under: a predecessor's is that of its successor."""
    return name.partition(PREDECESSOR)[0]
