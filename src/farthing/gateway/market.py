"""Market: what every attempt is bought with, whoever asks for it."""

from collections.abc import Mapping

import msgspec

from farthing.dialects import read_pacing
from farthing.gateway.attempt import Buyer, Made, Source
from farthing.gateway.reserve import Reserve
from farthing.routing import Health, Judgement, RouteTable


class Market(msgspec.Struct, frozen=True):
    """The upstreams by name and their health, the routes to them, who buys, and who holds the money."""

    sources: Mapping[str, Source]
    routes: RouteTable
    buyer: Buyer
    reserve: Reserve
    health: Health

    def learn(self, made: Made, judgement: Judgement) -> None:
        """Tell the health of an upstream from real traffic."""
        attempt = made.attempt
        if not self.sources[attempt.upstream].own_key and judgement in ("quota", "rate_limited"):
            return  # the limit of one caller's own key
        pacing = read_pacing(attempt.reply.status, attempt.reply.headers, attempt.ended)
        self.health.note(attempt.upstream, judgement, attempt.ended, pacing)
