"""What settings must agree on with one another, beyond each being valid alone."""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from farthing.config.document import Path
from farthing.config.settings import Settings, Upstream
from farthing.config.shape import Fault, nearest
from farthing.providers.catalogue import providers

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def disagreements(settings: Settings) -> Iterator[Fault]:
    """Everything that makes these settings unusable together."""
    if not settings.keys and not _is_loopback(settings.server.host):
        yield Fault(
            ("server", "host"),
            f'server.host is "{settings.server.host}", which lets other machines in; that needs a key: add [keys.NAME]',
        )
    for section in ("upstreams", "keys"):
        for name in getattr(settings, section):
            if not _NAME.fullmatch(name):
                yield Fault((section, name), f"{section} has the name {name!r}; use letters, digits, - and _")
    for name, upstream in settings.upstreams.items():
        yield from _upstream_faults(upstream, ("upstreams", name))
    for index, route in enumerate(settings.routes):
        if route.upstream not in settings.upstreams:
            message = f'routes[{index}] goes to the upstream "{route.upstream}", which is not configured'
            yield Fault(("routes", index, "upstream"), message + nearest(route.upstream, list(settings.upstreams)))
    yield from _shared_secrets(settings)


def _upstream_faults(upstream: Upstream, path: Path) -> Iterator[Fault]:
    where = f"[upstreams.{path[-1]}]"
    if upstream.kind == "http":
        yield from _address_faults(upstream, path, where)
    if upstream.kind == "recorded" and not upstream.recording:
        yield Fault(path, f'{where} is recorded, so it needs recording = "FILE"')


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


def _is_loopback(host: str) -> bool:
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


def _shared_secrets(settings: Settings) -> Iterator[Fault]:
    owners: dict[str, str] = {}
    for name, key in settings.keys.items():
        if not key.secret:
            message = f'[keys.{name}] has an empty secret; write "env:NAME" or "file:/path"'
            yield Fault(("keys", name, "secret"), message)
        elif (first := owners.setdefault(key.secret, name)) != name:
            message = f"[keys.{name}] has the same secret as [keys.{first}]; a call could be billed to either"
            yield Fault(("keys", name, "secret"), message)
