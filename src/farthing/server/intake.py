"""From request headers to a caller: who it is, what it labels its call with, and what may be passed on."""

from collections import OrderedDict
from collections.abc import Collection
from urllib.parse import urlsplit

import msgspec

from farthing.errors import RequestError, Unauthorized
from farthing.gateway import Keyring
from farthing.gateway.keyring import Standing
from farthing.schema import Caller, Headers

CREDENTIALS = (b"authorization", b"x-api-key", b"api-key")
STAYS = frozenset(
    (b"host", b"connection", b"keep-alive", b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"upgrade",
     b"transfer-encoding", b"accept-encoding", b"expect", b"cookie", b"origin", b"referer", b"forwarded",
     b"x-real-ip")
)  # fmt: skip
"""Headers about this hop, or about the caller's browser, that no provider needs; those that `Connection` names, and
`X-Forwarded-*`, stay as well.
"""

KNOWN_HEADERS = 1024
MAX_TAGS = 16
MAX_TAG_BYTES = 256
MAX_IDEMPOTENCY_BYTES = 255


class Intake(msgspec.Struct, frozen=True):
    """What the headers of a request say, for as long as its key `standing` holds at a `revision` of the keyring."""

    caller: Caller
    forward: Headers
    standing: Standing
    revision: int
    idempotency_key: bytes = b""


class Intakes:
    """Reads headers, remembering what it read: clients send the same ones again and again."""

    def __init__(self, keyring: Keyring, allowed_hosts: Collection[str]) -> None:
        """Without keys, calls come under the names in `allowed_hosts`, and from their pages, only; "*" lets all."""
        self._keyring = keyring
        self._allowed_hosts = frozenset(host.strip("[]").lower() for host in allowed_hosts)
        self._known: OrderedDict[Headers, Intake] = OrderedDict()

    def read(self, headers: list[tuple[bytes, bytes]]) -> Intake:
        """What headers say; equal headers give the very same object while it holds. Raises as `read_headers` does."""
        key = tuple(headers)
        intake = self._known.get(key)
        if intake is None or not self.holds(intake):
            if not self._keyring.authenticates and "*" not in self._allowed_hosts:
                self._refuse_sites_elsewhere(headers)
            intake = read_headers(headers, self._keyring)
            if intake.idempotency_key:
                return intake  # such headers come once, and are not worth a place
            self._known[key] = intake
            if len(self._known) > KNOWN_HEADERS:
                self._known.popitem(last=False)
        return intake

    def holds(self, intake: Intake) -> bool:
        """Whether what headers said may be said of the same headers still: no key changed, and its own is in force."""
        return self._keyring.holds(intake.standing, intake.revision)

    def _refuse_sites_elsewhere(self, headers: list[tuple[bytes, bytes]]) -> None:
        """A page that the gateway's owner happens to visit must not spend on its account.

        Browsers name a page's origin, and where it had its own name point here, that name.
        """
        for name, value in headers:
            shown = value.decode("latin-1")[:200]
            if name == b"origin" and _host_of(value) not in self._allowed_hosts:
                raise Unauthorized(
                    f"A page from {shown} may not use this gateway without a key.",
                    hint="Give the gateway keys, or add the page's host to server.allowed_hosts.",
                )
            if name == b"host" and _host_of(b"//" + value) not in self._allowed_hosts:
                raise Unauthorized(
                    f"This gateway is not known as {shown!r}, and without keys it answers only under its own names.",
                    hint="Give the gateway keys, or add this name to server.allowed_hosts.",
                )


def _host_of(origin: bytes) -> str:
    try:
        return (urlsplit(origin.decode("latin-1")).hostname or "").rstrip(".")
    except ValueError:
        return ""


def read_headers(headers: list[tuple[bytes, bytes]], keyring: Keyring) -> Intake:
    """Identify the caller and select what may be passed on.

    Raises Unauthorized for a missing or unknown gateway key, RequestError for labels that are too many or too long and
    for an Idempotency-Key that is none, StoreError when a key cannot be looked up.
    """
    revision, authenticates = keyring.revision, keyring.authenticates  # before: what changes meanwhile is read again
    standing = keyring.identify(_credential(headers))
    caller = standing.caller
    labels: dict[str, str] = {}
    forward = []
    idempotency_key = b""
    hop = {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}
    for name, value in headers:
        if name.startswith(b"x-farthing-"):
            _label(labels, name[len(b"x-farthing-") :].decode("latin-1"), value)
        elif name == b"idempotency-key":
            idempotency_key = _idempotency_key(idempotency_key, value)
        elif (
            name in STAYS
            or name in hop
            or name.startswith(b"x-forwarded-")
            or b"_" in name  # some servers take it for the name with dashes
            or (name in CREDENTIALS and authenticates)
        ):
            continue
        else:
            forward.append((name, value))
    if labels:
        caller = _labelled(caller, labels, trusted=not authenticates)
    return Intake(caller, tuple(forward), standing, revision, idempotency_key)


def tagged(caller: Caller, tags: tuple[tuple[str, str], ...]) -> Caller:
    """A caller with the tags of its body beside those of its headers, which win, up to as many as there may be."""
    given = {name for name, _ in caller.tags}
    more = tuple(tag for tag in tags if tag[0] not in given)
    return msgspec.structs.replace(caller, tags=(caller.tags + more)[:MAX_TAGS])


def _idempotency_key(before: bytes, value: bytes) -> bytes:
    if before and before != value:
        raise RequestError("The request carries two Idempotency-Key headers.", hint="Send one.")
    if len(value) > MAX_IDEMPOTENCY_BYTES or not value.isascii() or not value.decode("latin-1").isprintable():
        raise RequestError(
            f"The Idempotency-Key, of {len(value)} bytes, cannot be used.",
            hint=f"Send up to {MAX_IDEMPOTENCY_BYTES} printable ASCII characters, such as a UUID.",
        )
    return value


def _credential(headers: list[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if name in CREDENTIALS:
            return value[7:] if value[:7].lower() == b"bearer " else value
    return b""


def _label(labels: dict[str, str], name: str, value: bytes) -> None:
    if len(name) + len(value) > MAX_TAG_BYTES:
        size = len(name) + len(value)
        raise RequestError(f'The header "x-farthing-{name[:80]}" is {size} bytes long; the limit is {MAX_TAG_BYTES}.')
    if len(labels) >= MAX_TAGS:
        raise RequestError(f"The request carries more than {MAX_TAGS} x-farthing-* headers.")
    labels[name] = value.decode("utf-8", "replace")


def _labelled(caller: Caller, labels: dict[str, str], *, trusted: bool) -> Caller:
    """A gateway key vouches for its tenant and team; without keys the caller's own word counts."""
    tags = tuple((name[4:], value) for name, value in labels.items() if name.startswith("tag-"))
    return Caller(
        tenant=labels.get("tenant", caller.tenant) if trusted else caller.tenant,
        team=labels.get("team", caller.team) if trusted else caller.team,
        key=caller.key,
        feature=labels.get("feature", caller.feature),
        tags=tags,
    )
