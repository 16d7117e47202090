"""GatewayKey: what the gateway knows of a key it gave out; never the key itself."""

import msgspec


class GatewayKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key made by `farthing key new`: who it stands for, and what it may do.

    `digest` is HMAC-SHA256 of the key under the gateway's pepper, in hexadecimal; `ending` its last four characters,
    for people to tell keys apart. `models` and `endpoints` are patterns ("*" matches anything). A key whose `parent` is
    revoked or expired is so too, and may do only what its parent may. Instants are Unix ns, `None` for never.
    """

    name: str
    digest: str
    ending: str = ""
    tenant: str = ""
    team: str = ""
    models: tuple[str, ...] = ("*",)
    endpoints: tuple[str, ...] = ("*",)
    parent: str = ""
    created: int = 0
    expires: int | None = None
    revoked: int | None = None
