"""Reply: what went back to the caller, with what the provider said it used."""

from typing import Literal

import msgspec

from farthing.schema.money import Charge
from farthing.schema.usage import Usage, UsageSource
from farthing.schema.wire import Headers

Ending = Literal["complete", "unreachable", "timeout", "reset", "garbage", "disconnected", "declined"]
"""How an upstream's answer ended: `reset` is a connection lost part way, `disconnected` a caller that left, `declined`
a small model less confident of its answer than was asked."""


class Reply(msgspec.Struct, frozen=True):
    """One answer: `body` is the plain JSON, or every SSE frame when `streamed` (empty when too long to keep).

    `tail` is the end of a live stream, held back until its entry is written. `model` and `tier` are what the provider
    says it served, which is what it bills; `finish` is its stop reason; `error` is the stable code of a failure;
    `unknown_usage` names usage fields that Farthing does not know yet. `provider` is the price book's name for who sold
    it; `charge` is what it cost when it was bought, and so what a cache saves by giving it again; `simulated` marks
    answers of a stub or a recording.
    """

    status: int
    body: bytes = b""
    tail: bytes = b""
    headers: Headers = ()
    streamed: bool = False
    ending: Ending = "complete"
    model: str | None = None
    tier: str | None = None
    usage: Usage | None = None
    usage_source: UsageSource = "none"
    finish: str | None = None
    error: str = ""
    unknown_usage: tuple[str, ...] = ()
    provider: str = ""
    charge: Charge | None = None
    simulated: bool = False

    @property
    def ok(self) -> bool:
        """Whole, and not an error."""
        return self.status < 400 and self.ending == "complete" and not self.error
