"""Exchange: a Call on its way through the gateway. Frozen: each stage returns a grown copy."""

import msgspec

from farthing.schema.call import Call, Caller
from farthing.schema.reply import Reply

Fact = str | int | float | bool | None


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a lever or limit chose for one call, and the facts it chose on, so that an entry explains itself."""

    lever: str
    verdict: str
    facts: dict[str, Fact] = {}


class Attempt(msgspec.Struct, frozen=True):
    """One upstream asked once. Instants are Unix nanoseconds; `first_byte` is `None` when nothing came back."""

    upstream: str
    reply: Reply
    started: int
    ended: int
    first_byte: int | None


class Exchange(msgspec.Struct, frozen=True):
    """Everything known about one call so far.

    `id` groups its entries; `arrived` is when its last byte was read (Unix ns); `cache_key` is set when this call
    is the one whose answer others may share; `waited` is how long (ns) it waited for an identical call's answer.
    """

    id: str
    call: Call
    caller: Caller
    arrived: int
    decisions: tuple[Decision, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    reply: Reply | None = None
    cache_key: bytes | None = None
    waited: int = 0

    def noting(self, lever: str, verdict: str, **facts: Fact) -> "Exchange":
        """The same exchange with one more decision."""
        return msgspec.structs.replace(self, decisions=(*self.decisions, Decision(lever, verdict, facts)))

    def answered(self, reply: Reply) -> "Exchange":
        """The same exchange with its reply, which ends the pipeline."""
        return msgspec.structs.replace(self, reply=reply)
