"""RedisBudgets: what limits count, in a Redis or Valkey that the gateways of many hosts share.

Every batch is one round trip: a Lua script reads, decides and writes in one step of the server.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from farthing.budgets.cells import MOST
from farthing.ports import LEASE_SECONDS
from farthing.schema import Balance, Claim, Hold, LimitMeter, Resolution, Verdict
from farthing.stores.redis_link import Part, RedisLink, Script, Session

_pack = msgspec.msgpack.Encoder().encode
_CLAIMS = msgspec.msgpack.Decoder(list[tuple[str, LimitMeter, int, int, str, str]])
_VERDICTS = msgspec.json.Decoder(list[tuple[bool, list[tuple[int, int, int]], int, list[int]]])


class RedisBudgets:
    """Implements `farthing.ports.BudgetStore` in a server, under keys that begin with `prefix`; `deadline` in seconds.

    Nothing is asked of the server before the first call. Leases are measured by its clock. All keys have one hash tag,
    and so one place in a cluster. Amounts are exact, and count as 2^63 - 1 from there on.

    A server that forgets everything knows no account, and holds are refused until it was told what the ledger says was
    spent. What does not count then is what was held at that moment, and what had not yet reached the ledger. One that
    goes back to an earlier state (a backup, a replica that was behind) does not know what happened since; holds made
    since then, and what they came to, do not count. An account that it evicts is a debt forgotten: see that it evicts
    nothing (`maxmemory-policy noeviction`).
    """

    def __init__(self, url: str, owner: str, deadline: float = 0.5, prefix: str = "farthing") -> None:
        self._link = RedisLink(url, deadline, "What limits count")
        self._owner = owner
        self._prefix = f"{{{prefix}}}"
        self._turn = asyncio.Lock()
        self._fence = b""

    async def apply(self, resolutions: Sequence[Resolution], holds: Sequence[Hold]) -> list[Verdict]:
        """Resolve, then hold, in one step of the server.

        A batch that got no answer may reach the server late. The next one comes with another fence, after which that
        one does nothing any more, so that nothing is held for which nobody waits.
        """
        ended = _pack([(one.id, digits(one.usd), digits(one.tokens), digits(one.calls)) for one in resolutions])
        made = [part for hold in holds for part in (hold.id, packed(hold.claims), hold.entry)]
        async with self._turn, self._link.session() as redis:
            answer = None
            while answer is None:
                fence, self._fence = self._fence or await self._enter(redis), b""
                answer = await self._run(redis, "apply", self._owner, fence, ended, *made)
            self._fence = fence
            return [
                Verdict(
                    granted,
                    tuple([Balance(*amounts) for amounts in balances]),
                    short,
                    tuple(dict.fromkeys(hold.claims[at].account for at in unknown)),
                )
                for hold, (granted, balances, short, unknown) in zip(holds, _VERDICTS.decode(answer), strict=True)
            ]

    async def seed(self, account: str, spent: Mapping[int, int]) -> None:
        """Make an account known, with what was spent already by slice."""
        amounts = [(slice_, digits(min(max(amount, 0), MOST))) for slice_, amount in spent.items()]
        async with self._link.session() as redis:
            await self._run(redis, "seed", account, _pack(amounts))

    async def balance(self, account: str, oldest: int) -> Balance:
        """What counts in an account from the slice `oldest` on."""
        found = await self._link.ask("HGETALL", f"{self._prefix}:account:{account}")
        cells = [
            tuple(map(int, amounts.split()))
            for slice_, amounts in zip(found[::2], found[1::2], strict=True)
            if slice_ != b"known" and int(slice_) >= oldest
        ]
        return Balance(*map(sum, zip(*cells, strict=True)))

    async def accounts(self) -> list[str]:
        """Every account that was seeded or held from, and may still count."""
        return [name.decode() for name in await self._link.ask("ZRANGE", f"{self._prefix}:accounts", 0, -1)]

    async def beat(self) -> None:
        """Say that this owner lives; what those hold who were silent for too long expires."""
        async with self._link.session() as redis:
            await self._run(redis, "beat", self._owner, str(LEASE_SECONDS))

    async def orphans(self) -> list[Hold]:
        """This owner's holds; none of those that a process before this one asked for can come to be after this."""
        async with self._turn, self._link.session() as redis:
            self._fence = b""
            fence = await self._enter(redis)
            found = await self._run(redis, "orphans", self._owner)
            self._fence = fence
            return [Hold(ident.decode(), unpacked(claims), entry) for ident, claims, entry in found]

    async def close(self) -> None:
        """Let the server go."""
        await self._link.close()

    async def _enter(self, redis: Session) -> bytes:
        """A fence that no batch of this owner had before."""
        return b"%d" % await self._run(redis, "enter", self._owner)

    async def _run(self, redis: Session, *arguments: Part) -> Any:
        return await redis.run(script(), self._prefix, *arguments)


@cache
def script() -> Script:
    """What the server runs."""
    return Script((files("farthing.stores") / "data" / "budgets.lua").read_text("utf-8"))


def digits(amount: int | None) -> str:
    """An amount as the script reads it, in which numbers would not be exact; none is empty."""
    return "" if amount is None else str(amount)


def packed(claims: Sequence[Claim]) -> bytes:
    """Claims as the script keeps them."""
    return _pack(
        [
            (claim.account, claim.meter, claim.slice, claim.oldest, str(claim.amount), digits(claim.limit))
            for claim in claims
        ]
    )


def unpacked(claims: bytes) -> tuple[Claim, ...]:
    """Claims that the script kept."""
    return tuple(
        Claim(account, meter, slice_, oldest, int(amount), int(limit) if limit else None)
        for account, meter, slice_, oldest, amount, limit in _CLAIMS.decode(claims)
    )
