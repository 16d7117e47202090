"""All that the core and the services ask of the world, on one page.

Each protocol is implemented by one adapter per product and tested by one contract suite over every adapter.
Methods without `async` are cheap and never block on a network.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from farthing.schema import Balance, Ending, Entry, GatewayKey, Headers, Hold, Reply, Resolution, Rollup, Verdict


class Clock(Protocol):
    """The time, as an argument: the system's, or replay's virtual one."""

    def now(self) -> int:
        """Unix time in nanoseconds."""
        ...


class Flow(Protocol):
    """A source of bytes that can be told to wait, so that a slow reader never fills memory."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def stop(self, reason: str) -> None:
        """End it for good: what it sends cannot be taken."""
        ...


class Outlet(Protocol):
    """The caller's end of a streamed answer."""

    def begin(self, status: int, headers: Headers) -> None:
        """Send the status and headers of a stream."""
        ...

    def write(self, chunk: bytes) -> None:
        """Send bytes of the body; silently dropped once the caller has left."""
        ...

    def throttle(self, flow: Flow) -> None:
        """Pause and resume `flow` as the caller falls behind and catches up."""
        ...


class Sink(Protocol):
    """Where an upstream pours its answer as it arrives."""

    def begin(self, status: int, headers: Headers, flow: Flow | None) -> None: ...

    def chunk(self, data: bytes) -> None: ...


class Question(msgspec.Struct, frozen=True):
    """One request to an upstream: `path` is relative to its base address ("/chat/completions").

    `headers` are the caller's that may be passed on (lower-case names); the adapter adds its own credentials.
    `drainable` is asked once the caller has left: whether the rest is cheap enough to be read for its meter.
    `accept` is the least confidence, from 0 to 1, of an answer that may be given (0: any); an upstream that tells no
    confidence heeds it not.
    """

    method: str
    path: str
    headers: Headers
    body: bytes
    stream: bool
    drainable: Callable[[], bool] = lambda: True
    accept: float = 0.0


class Outcome(msgspec.Struct, frozen=True):
    """How an upstream's answer ended, a sentence about it when it did not end well, and whether it was asked at all.

    What was never `sent` cost nothing; what was sent and lost may have cost money. `drained`: the caller had left, and
    the rest was read for its meter. `confidence`, from 0 to 1, is how likely the upstream holds its answer to be right
    (`None`: it does not say); "declined" when that was less than was asked, with nothing poured.
    """

    ending: Ending
    detail: str = ""
    sent: bool = True
    drained: bool = False
    confidence: float | None = None


class Upstream(Protocol):
    """Where an answer is bought: a provider, a self-hosted engine, a recording, a stub."""

    name: str
    provider: str
    simulated: bool

    async def ask(self, question: Question, sink: Sink) -> Outcome:
        """Ask once and pour the answer into `sink`; failures are outcomes, never exceptions.

        When cancelled (the caller left), abort or drain by the upstream's own setting, then return.
        """
        ...

    async def close(self) -> None: ...


class Journal(Protocol):
    """The append-only, checksummed log in front of the ledger store."""

    @property
    def failure(self) -> str:
        """Why entries cannot be written at present; empty when they can."""
        ...

    def append(self, entries: Sequence[Entry]) -> None:
        """Queue entries for the next commit, which comes before the event loop's next tick ends.

        Raises `LedgerError` when nothing could be written for so long that no more can be queued.
        """
        ...

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Run `callback` once everything appended so far is written, or could not be (see `failure`)."""
        ...

    def close(self) -> None:
        """Write and hand on all that is queued. Raises `LedgerError` when that cannot be done."""
        ...


class Stored(msgspec.Struct, frozen=True, gc=False):
    """One journal record as a store takes it: the entry, and its JSON exactly as journalled."""

    entry: Entry
    line: bytes


class LedgerStore(Protocol):
    """Where entries live and are asked for; fed from the journals of one or many gateways, exactly once.

    A journal is known by its name; that of the only one is "". Every method may be called from any thread, and raises
    `LedgerError` when the store cannot be used.
    """

    def position(self, journal: str = "") -> int:
        """The number of records taken so far of a journal."""
        ...

    def ingest(self, records: Sequence[Stored], position: int, journal: str = "") -> None:
        """Take records and move to `position` in one transaction, safe from a loss of power once it returns.

        `position` is the record number in `journal` after the last of `records`; those taken before are ignored.
        Raises `LedgerError` when records before the first of `records` were never taken.
        """
        ...

    def rollups(self, since: int = 0, until: int = 2**63 - 1) -> Iterator[Rollup]:
        """Hourly sums, by hour, of the hours that begin in [since, until), Unix ns."""
        ...

    def entries(
        self, since: int = 0, until: int = 2**63 - 1, limit: int | None = None, newest_first: bool = False
    ) -> Iterator[Entry]:
        """Entries that arrived in [since, until), by arrival, then in the order taken."""
        ...

    def group(self, group: str) -> list[Entry]:
        """Every entry of one exchange, in the order taken."""
        ...

    def prune(self, before: int) -> int:
        """Forget entries (not roll-ups) that arrived before an instant; how many went."""
        ...

    def check(self) -> list[str]:
        """What is wrong with the stored data, in sentences; empty when sound."""
        ...

    def close(self) -> None: ...


class Kept(msgspec.Struct, frozen=True, gc=False):
    """A reply in a cache, and when it may no longer be given (Unix ns)."""

    reply: Reply
    expires: int


class ReplyStore(Protocol):
    """One level of the exact cache: whole replies by key, bounded in bytes, each with an expiry."""

    def get(self, key: bytes, now: int) -> Kept | None:
        """The reply kept under `key`, unless it expired by `now` (Unix ns)."""
        ...

    def put(self, key: bytes, reply: Reply, expires: int) -> None:
        """Keep `reply` until `expires` (Unix ns) at the longest; one too large to keep is dropped."""
        ...

    def close(self) -> None: ...


class SharedReplies(Protocol):
    """A level of the exact cache that several gateways share. It fails open: what cannot be read is a miss."""

    async def get(self, key: bytes, now: int) -> Kept | None:
        """The reply kept under `key`, unless it expired by `now` (Unix ns), or the store did not answer in time."""
        ...

    def put(self, key: bytes, reply: Reply, expires: int) -> None:
        """Keep `reply` until `expires` (Unix ns); soon, and in the background."""
        ...

    async def close(self) -> None: ...


class BudgetStore(Protocol):
    """Where what limits count is kept: accounts and the holds on them, shared by every process that is given the store.

    A store acts for one owner: a process, or its successor over the same journal. Every method raises `StoreError`
    when the store cannot be used, or does not answer within its deadline; nothing then tells whether it acted.
    """

    async def apply(self, resolutions: Sequence[Resolution], holds: Sequence[Hold]) -> list[Verdict]:
        """Resolve, then hold, each in order and in one atomic step; a verdict for each hold.

        A hold is granted when, for each of its claims with a limit, balance + amount <= limit. Holding again under the
        same id is granted without holding twice. At most one round trip.
        """
        ...

    async def seed(self, account: str, spent: Mapping[int, int]) -> None:
        """Make an account known, with what was spent already by slice; one that is known stays as it is."""
        ...

    async def balance(self, account: str, oldest: int) -> Balance:
        """What counts in an account from the slice `oldest` on; nothing in one that is not known."""
        ...

    async def accounts(self) -> list[str]:
        """The name of every account that was ever held from or seeded, and not forgotten since."""
        ...

    async def beat(self) -> None:
        """Say that this owner lives; what an owner holds that has not said so for `LEASE_SECONDS` expires."""
        ...

    async def orphans(self) -> list[Hold]:
        """This owner's holds, live or expired: what the process before it left when it died."""
        ...

    async def close(self) -> None: ...


class KeyStore(Protocol):
    """Where gateway keys are kept, shared by every process that is given the store.

    Every method may be called from any thread, and raises `StoreError` when the store cannot be used.
    """

    def revision(self) -> int:
        """A number that grows with every change: cheap to ask, several times a second."""
        ...

    def keys(self) -> list[GatewayKey]:
        """Every key, revoked ones too, oldest first."""
        ...

    def add(self, key: GatewayKey) -> None:
        """Keep a new key. Raises `RequestError` when its name is taken."""
        ...

    def change(self, key: GatewayKey) -> None:
        """Put a key in the place of the one of its name. Raises `RequestError` when there is none."""
        ...

    def close(self) -> None: ...


class Repeated(msgspec.Struct, frozen=True, gc=False):
    """What is known of an Idempotency-Key: the digest of the request it stands for, and its reply once there is one."""

    digest: bytes
    reply: Reply | None


class IdempotencyStore(Protocol):
    """Which Idempotency-Keys were used, and for what; shared by every process that is given the store.

    Every method raises `StoreError` when the store cannot be used, or does not answer within its deadline.
    """

    async def claim(self, key: bytes, digest: bytes, owner: str, now: int, until: int) -> Repeated | None:
        """Take a key for a request, until it is completed or `until` (Unix ns) has passed; `None` when it is taken now.

        Otherwise what is known of it: who came first has it until its reply is there.
        """
        ...

    async def complete(self, key: bytes, owner: str, reply: Reply, until: int) -> None:
        """Keep the reply of a claimed key until an instant (Unix ns)."""
        ...

    async def release(self, key: bytes, owner: str) -> None:
        """Give a claimed key back: nothing was bought for it."""
        ...

    async def close(self) -> None: ...


LEASE_SECONDS = 20.0
"""How long after its last sign of life an owner is taken for dead; it gives one every quarter of that."""
