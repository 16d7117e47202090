"""A past for the demonstration: a simulated day, replayed in virtual time through the pipeline that serves."""

from itertools import takewhile
from time import time_ns

from farthing.config import Settings
from farthing.ledger.report import Figures
from farthing.simulation.generator import DAY, SECOND, Dice, Workload, generate
from farthing.wiring.replaying import replay_into_ledger

CALLS = 8_000
"""How many calls the day has, more or less; a second of work."""

BEFORE = 60
"""Seconds between the day's end and now: time for its last answers to be complete."""


def simulated_day(settings: Settings, dice: Dice) -> Figures:
    """Enter the calls of the last 24 hours in the ledger, as if they had been made; what they came to."""
    now = time_ns()
    start = now // SECOND - BEFORE - DAY
    traffic = generate(Workload(calls=2 * CALLS, rate=CALLS / DAY, start=start), dice)
    day = takewhile(lambda recorded: recorded.at < (start + DAY) * SECOND, traffic)
    return replay_into_ledger(settings, day, now).totals
