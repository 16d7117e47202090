"""What settings must agree on with one another, beyond each being valid alone."""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import get_args
from urllib.parse import urlsplit

from farthing.config.document import Path
from farthing.config.limits_agreement import limit_faults
from farthing.config.settings import Settings, Upstream
from farthing.config.shape import Fault, nearest
from farthing.providers.catalogue import providers
from farthing.schema import Endpoint

_ENDPOINTS: tuple[str, ...] = get_args(Endpoint)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def disagreements(settings: Settings) -> Iterator[Fault]:
    """Everything that makes these settings unusable together."""
    if not settings.server.admin_token and not is_loopback(settings.server.host):
        yield Fault(
            ("server", "host"),
            f'server.host is "{settings.server.host}", which lets other machines in; that needs a key for each caller '
            '([keys.NAME] or `farthing key new`) and, for the pages, server.admin_token = "env:NAME"',
        )
    for section in ("upstreams", "keys", "budgets", "limits"):
        for name in getattr(settings, section):
            if not _NAME.fullmatch(name):
                yield Fault((section, name), f"{section} has the name {name!r}; use letters, digits, - and _")
    for name, upstream in settings.upstreams.items():
        yield from _upstream_faults(upstream, ("upstreams", name))
    for index, route in enumerate(settings.routes):
        if route.upstream not in settings.upstreams:
            message = f'routes[{index}] goes to the upstream "{route.upstream}", which is not configured'
            yield Fault(("routes", index, "upstream"), message + nearest(route.upstream, list(settings.upstreams)))
        if route.gate and not route.audit:
            message = f"routes[{index}] has a gate and no audit to tell when it is exceeded; add audit = 0.02, or so"
            yield Fault(("routes", index, "gate"), message)
    yield from _key_faults(settings)
    yield from limit_faults(settings)


def _upstream_faults(upstream: Upstream, path: Path) -> Iterator[Fault]:
    where = f"[upstreams.{path[-1]}]"
    if upstream.kind == "http":
        yield from _address_faults(upstream, path, where)
    if upstream.kind == "recorded" and not upstream.recording:
        yield Fault(path, f'{where} is recorded, so it needs recording = "FILE"')
    if upstream.kind == "embedded" and not (upstream.folder or upstream.folders):
        yield Fault(path, f'{where} is embedded, so it needs folder = "DIRECTORY", as `farthing compress` makes it')


def _address_faults(upstream: Upstream, path: Path, where: str) -> Iterator[Fault]:
    table = providers()
    if upstream.provider and upstream.provider not in table:
        message = f'{where} has provider "{upstream.provider}", which is not in the provider table'
        yield Fault((*path, "provider"), message + nearest(upstream.provider, list(table)))
    elif upstream.provider and not upstream.base_url and not table[upstream.provider].base_url:
        yield Fault(
            path, f'{where} needs base_url = "https://...": {upstream.provider} has a different one per customer'
        )
    elif not upstream.provider and not upstream.base_url:
        yield Fault(path, f'{where} needs provider = "NAME" or base_url = "https://..."')
    if upstream.base_url and not _is_http(upstream.base_url):
        message = f"{where} has a base_url that is not http:// or https:// with a host and a path, and nothing else"
        yield Fault((*path, "base_url"), message)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host.

    >>> is_loopback("127.0.0.2"), is_loopback("[::1]"), is_loopback("0.0.0.0"), is_loopback("gateway.internal")
    (True, True, False, False)
    """
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_http(address: str) -> bool:
    try:
        parts = urlsplit(address)
        plain = address.isprintable() and not {"@", "?", "#", " "} & set(address)
        return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _key_faults(settings: Settings) -> Iterator[Fault]:
    owners: dict[str, str] = {}
    for name, key in settings.keys.items():
        if not key.secret:
            message = f'[keys.{name}] has an empty secret; write "env:NAME" or "file:/path"'
            yield Fault(("keys", name, "secret"), message)
        elif (first := owners.setdefault(key.secret, name)) != name:
            message = f"[keys.{name}] has the same secret as [keys.{first}]; a call could be billed to either"
            yield Fault(("keys", name, "secret"), message)
        for endpoint in key.endpoints:
            if "*" not in endpoint and endpoint not in _ENDPOINTS:
                message = f'[keys.{name}] may use the endpoint "{endpoint}", which there is not'
                yield Fault(("keys", name, "endpoints"), message + nearest(endpoint, list(_ENDPOINTS)))
