"""The life of a call: a loop over its stages, then settlement, whatever happened."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from farthing.errors import FarthingError
from farthing.gateway.audits import Audits
from farthing.gateway.refusal import error_reply
from farthing.gateway.relay import LEFT
from farthing.gateway.settle import FAILED, Settlement
from farthing.ports import Outlet
from farthing.schema import Exchange, Reply

Stage = Callable[[Exchange, Outlet | None], Awaitable[Exchange]]
"""Takes an exchange and the caller's end of a stream, and returns the exchange grown; a reply ends the loop."""

ABORTED = Reply(status=LEFT, ending="disconnected", error="client_disconnected")


class Pipeline:
    """Runs every call through the same stages, in an order that only wiring knows."""

    def __init__(
        self,
        stages: Sequence[Stage],
        settlement: Settlement,
        recorded: Callable[[Exchange], Awaitable[None]] | None = None,
        audits: Audits | None = None,
    ) -> None:
        """`recorded` returns once the reply of a call with an Idempotency-Key is kept for whoever repeats it.

        `audits` are what goes on in the background once calls are settled.
        """
        self._stages = tuple(stages)
        self._settlement = settlement
        self._recorded = recorded
        self.audits = audits
        self.in_flight: dict[str, Exchange] = {}

    async def handle(self, exchange: Exchange, outlet: Outlet | None = None) -> Exchange:
        """Answer one call and enter it in the ledger.

        Returns the exchange with its reply. Expected failures become replies in the caller's dialect; settlement has
        no await in it, so that a cancelled call (its caller left) is settled like any other.
        """
        self.in_flight[exchange.id] = exchange
        try:
            self._settlement.admit()
            for stage in self._stages:
                exchange = await stage(exchange, outlet)
                if exchange.reply is not None:
                    break
        except FarthingError as error:
            exchange = self.refuse(exchange, error)
        except asyncio.CancelledError:
            exchange = exchange.answered(ABORTED)
            raise
        except BaseException:
            exchange = exchange.answered(FAILED)
            raise
        finally:
            del self.in_flight[exchange.id]
            self._settlement.settle(exchange)
        if self._recorded is not None and exchange.call.idempotency_key:
            await self._recorded(exchange)
        return exchange

    async def emptied(self) -> None:
        """Return once no call is in flight, and no audit."""
        while self.in_flight or (self.audits is not None and self.audits.under_way):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def refuse(self, exchange: Exchange, error: FarthingError) -> Exchange:
        """The exchange answered by an error in the caller's dialect."""
        return exchange.noting("refusal", error.code, message=error.message).answered(
            error_reply(exchange.call.endpoint, error, exchange.id)
        )

    def enter(self, exchange: Exchange) -> None:
        """Enter a call that was answered before it reached the first stage."""
        self._settlement.settle(exchange)
