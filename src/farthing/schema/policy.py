"""Policy: the levers and limits in force."""

from hashlib import sha256
from typing import Literal

import msgspec


class SharingRules(msgspec.Struct, frozen=True):
    """Which answers may be given again to an identical call.

    `scope` is who shares; `ttl` is in nanoseconds; `max_temperature` is the highest explicit temperature still shared;
    `tools` shares calls that offer tools; `truncated` shares answers cut off by a length limit.
    """

    enabled: bool = True
    ttl: int = 3600 * 10**9
    scope: Literal["tenant", "key", "all"] = "tenant"
    max_temperature: float = 0.0
    tools: bool = False
    truncated: bool = False


class Route(msgspec.Struct, frozen=True):
    """Where calls go whose model matches `model` ("*" matches anything).

    `served_as` renames the model on the way; `cache` overrides `SharingRules.enabled` for this route.
    """

    model: str
    upstream: str
    endpoints: tuple[str, ...]
    served_as: str = ""
    cache: bool | None = None


class Policy(msgspec.Struct, frozen=True):
    """One versioned document: what the pure functions decide by, in replay as in production."""

    sharing: SharingRules
    routes: tuple[Route, ...]

    @property
    def version(self) -> str:
        """The first 12 hex digits of the SHA-256 of its content."""
        return sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:12]
