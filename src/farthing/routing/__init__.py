"""Which upstream serves a call."""

from farthing.routing.table import RouteTable

__all__ = ["RouteTable"]
