"""What happens to replicas, and when: they start, are taken away, fail, are repaired, and are paid for.

All chance is here: interruptions and failures are drawn ahead of time, for each replica as it begins to serve.
"""

import heapq
import math
from collections import deque
from typing import NamedTuple

import numpy as np

from farthing.simulation.fleet.fleet import Autoscaler, Fleet
from farthing.simulation.fleet.serving import DRAIN, EMPTY, OPEN
from farthing.simulation.fleet.state import ABSENT, DOWN, DRAINING, SERVING, STARTING, State

LOOK, READY, NOTICE, REMOVAL, FAILURE, REPAIR = range(6)
"""What happens at an instant."""

_HOUR_S = 3600.0


class Change(NamedTuple):
    """What `serve` does to a replica, and the status that it then has."""

    change: int
    replica: int
    status: int


class Operator:
    """Starts, stops and pays for replicas. An event is void when its replica has had another life since."""

    def __init__(self, fleet: Fleet, dice: np.random.Generator | None, slots: int) -> None:
        self.cold_starts = self.interruptions = self.failures = self.most = 0
        self.on_demand_s = self.spot_s = 0.0
        self._fleet = fleet
        self._dice = dice
        self._wanted = fleet.replicas
        self._events: list[tuple[float, int, int, int]] = []
        self._since = [0.0] * slots
        self._lives = [0] * slots
        self._wishes: deque[tuple[float, int]] = deque()
        self._looked_s = 0.0
        self._busy_s = 0.0

    @property
    def due_s(self) -> float:
        """The instant of the next event, infinity when there is none."""
        return self._events[0][0] if self._events else math.inf

    def begin(self, state: State) -> list[Change]:
        """Open the first replicas, at 0."""
        if self._fleet.autoscaler:
            self._at(self._fleet.autoscaler.every_s, LOOK, 0)
        changes = []
        for r in range(self._fleet.replicas):
            self._lease(state, r, 0.0)
            changes.append(self._opened(state, r, 0.0))
        return changes

    def act(self, state: State, now_s: float) -> list[Change]:
        """What follows from the event that is due now."""
        _, kind, r, life = heapq.heappop(self._events)
        if kind == LOOK:
            return self._look(state, now_s)
        if life != self._lives[r]:
            return []
        if kind in (READY, REPAIR):
            return [self._opened(state, r, now_s)]
        if kind == NOTICE:
            return self._noticed(state, r, now_s)
        if kind == FAILURE:
            return self._failed(state, r, now_s)
        self._end_lease(state, r, now_s)
        self._fill(state, now_s)
        return [Change(EMPTY, r, ABSENT)]

    def close(self, state: State, now_s: float) -> None:
        """Pay for all that is still there."""
        for r in np.flatnonzero(state.replicas["status"] != ABSENT).tolist():
            self._end_lease(state, r, now_s)

    def _look(self, state: State, now_s: float) -> list[Change]:
        """Let the autoscaler have its say."""
        scaler = self._fleet.autoscaler
        assert scaler is not None
        self._at(now_s + scaler.every_s, LOOK, 0)
        self._release_idle(state, now_s)
        desired = min(max(self._desired(state, scaler, now_s), scaler.minimum), scaler.maximum)
        while self._wishes and self._wishes[0][0] <= now_s - scaler.cooldown_s:
            self._wishes.popleft()
        self._wishes.append((now_s, desired))
        self._wanted = max(wish for _, wish in self._wishes) if desired < self._wanted else desired
        self._fill(state, now_s)
        return self._shrink(state, now_s)

    def _desired(self, state: State, scaler: Autoscaler, now_s: float) -> int:
        replicas = state.replicas
        serving = replicas["status"] == SERVING
        if scaler.signal == "utilisation":
            busy_s = float(replicas["busy_s"].sum())
            total = (busy_s - self._busy_s) / (now_s - self._looked_s)
            self._busy_s, self._looked_s = busy_s, now_s
        else:
            alive = int(state.totals["arrived"][0] - state.totals["finished"][0])
            held = alive - int(replicas["load"].sum())
            total = held + float(replicas["load" if scaler.signal == "requests" else "queued"][serving].sum())
        return math.ceil(total / scaler.target - 1e-9)

    def _noticed(self, state: State, r: int, now_s: float) -> list[Change]:
        """A spot instance will be taken away."""
        assert self._fleet.spot is not None
        self.interruptions += 1
        self._at(now_s + self._fleet.spot.notice_s, REMOVAL, r)
        state.replicas["status"][r] = DRAINING
        self._fill(state, now_s)
        return [Change(DRAIN, r, DRAINING)]

    def _failed(self, state: State, r: int, now_s: float) -> list[Change]:
        assert self._fleet.failures is not None
        self.failures += 1
        if state.replicas["status"][r] == DRAINING:
            self._end_lease(state, r, now_s)
            return [Change(EMPTY, r, ABSENT)]
        self._lives[r] += 1
        self._at(now_s + self._fleet.failures.repair_s, REPAIR, r)
        return [Change(EMPTY, r, DOWN)]

    def _fill(self, state: State, now_s: float) -> None:
        """Start replicas until there are as many as are wanted."""
        status = state.replicas["status"]
        for r in np.flatnonzero(status == ABSENT).tolist():
            if self._counted(state) >= self._wanted:
                return
            self._lease(state, r, now_s)
            status[r] = STARTING
            self.cold_starts += 1
            self._at(now_s + self._fleet.cold_start_s, READY, r)

    def _shrink(self, state: State, now_s: float) -> list[Change]:
        """Stop replicas until no more are left than are wanted: first what starts, then the least loaded."""
        replicas = state.replicas
        status = replicas["status"]
        changes = []
        for _ in range(self._counted(state) - self._wanted):
            starting = np.flatnonzero(status == STARTING)
            serving = np.flatnonzero(status == SERVING)
            if len(starting):
                self._end_lease(state, int(starting[-1]), now_s)
                status[starting[-1]] = ABSENT
            elif len(serving):
                r = int(serving[::-1][np.argmin(replicas["load"][serving[::-1]])])
                status[r] = DRAINING
                changes.append(Change(DRAIN, r, DRAINING))
        return changes

    def _release_idle(self, state: State, now_s: float) -> None:
        """Give back those that have finished all they had."""
        replicas = state.replicas
        for r in np.flatnonzero((replicas["status"] == DRAINING) & (replicas["load"] == 0)).tolist():
            self._end_lease(state, r, now_s)
            replicas["status"][r] = ABSENT

    def _counted(self, state: State) -> int:
        """Replicas that serve, or will."""
        return int(np.isin(state.replicas["status"], (STARTING, SERVING, DOWN)).sum())

    def _lease(self, state: State, r: int, now_s: float) -> None:
        replicas = state.replicas
        live = np.isin(replicas["status"], (STARTING, SERVING, DOWN))
        share = self._fleet.spot.share if self._fleet.spot else 0.0
        replicas["spot"][r] = replicas["spot"][live].sum() + 1 <= share * (live.sum() + 1) + 1e-9
        replicas["status"][r] = SERVING
        self._since[r] = now_s
        self.most = max(self.most, self._counted(state))

    def _end_lease(self, state: State, r: int, now_s: float) -> None:
        """Pay for a replica from its start to now, hour by hour."""
        self._lives[r] += 1
        start_s = self._since[r]
        if state.replicas["spot"][r]:
            self.spot_s += now_s - start_s
        else:
            self.on_demand_s += now_s - start_s
        for hour in range(int(start_s / _HOUR_S), int(now_s / _HOUR_S) + 1):
            within = min(now_s, (hour + 1) * _HOUR_S) - max(start_s, hour * _HOUR_S)
            state.hours["replica_s"][hour] += within

    def _opened(self, state: State, r: int, now_s: float) -> Change:
        """A replica begins to serve, and its fate is drawn."""
        spot, failures = self._fleet.spot, self._fleet.failures
        if failures and self._dice:
            self._at(now_s + self._dice.exponential(failures.every_h * _HOUR_S), FAILURE, r)
        if spot and self._dice and spot.interruptions_per_h > 0 and state.replicas["spot"][r]:
            self._at(now_s + self._dice.exponential(_HOUR_S / spot.interruptions_per_h), NOTICE, r)
        return Change(OPEN, r, SERVING)

    def _at(self, when_s: float, kind: int, r: int) -> None:
        heapq.heappush(self._events, (when_s, kind, r, self._lives[r]))
