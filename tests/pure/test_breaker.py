"""An upstream that fails rests, and one call at a time sees whether it is well again."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from farthing.routing import Health
from farthing.routing.breaker import ENOUGH, QUOTA_REST
from farthing.schema import Fallback
from farthing.schema.pacing import Pacing, Room

SECOND = 10**9
FALLBACK = Fallback(failures=3, rest=5 * SECOND, longest_rest=60 * SECOND)
NOW = 1_800_000_000 * SECOND


def health_after(*judgements: str, at: int = NOW) -> Health:
    health = Health(FALLBACK)
    for judgement in judgements:
        health.note("up", judgement, at)
    return health


def rest_of(health: Health, now: int = NOW) -> float:
    return (health.opens_at("up", now) - now) / SECOND


def test_an_upstream_nobody_asked_is_well():
    health = Health(FALLBACK)
    assert (health.opens_at("new", NOW), health.acquire("new", NOW), health.resting(NOW)) == (NOW, True, set())


def test_it_rests_after_so_many_failures_in_a_row():
    assert health_after("retry", "retry").resting(NOW) == set()
    assert health_after("retry", "retry", "answered", "retry", "retry").resting(NOW) == set()
    resting = health_after("retry", "retry", "retry")
    assert resting.resting(NOW) == {"up"}
    assert resting.resting(NOW + 5 * SECOND) == set()
    assert [resting.rests("up", NOW + seconds * SECOND) for seconds in (0, 4, 5)] == [True, True, False]
    assert not resting.acquire("up", NOW + 5 * SECOND - 1)


def test_faults_of_callers_neither_count_nor_heal():
    assert rest_of(health_after(*["caller"] * 50)) == 0
    assert rest_of(health_after("retry", "retry", "caller", "retry")) == 5


def test_it_rests_when_half_of_many_fail_though_never_in_a_row():
    health = health_after(*["answered", "retry"] * (ENOUGH // 2 - 1))
    assert rest_of(health) == 0
    health.note("up", "answered", NOW)
    health.note("up", "retry", NOW)
    assert rest_of(health) == 5


def test_it_does_not_rest_while_most_calls_are_answered():
    assert rest_of(health_after(*["answered", "answered", "retry"] * ENOUGH)) == 0


def test_failures_of_a_while_ago_still_count():
    health = health_after(*["answered", "retry"] * (ENOUGH // 2 - 1))
    health.note("up", "answered", NOW + 16 * SECOND)
    assert rest_of(health, NOW + 16 * SECOND) == 0
    health.note("up", "retry", NOW + 16 * SECOND)
    assert rest_of(health, NOW + 16 * SECOND) == 5


def test_what_it_failed_before_a_rest_is_forgotten_once_it_is_well_again():
    health = health_after(*["answered", "retry"] * (ENOUGH // 2 - 1), "retry", "retry")
    later = NOW + 5 * SECOND
    for judgement in ("answered", "retry", "answered", "retry"):
        health.note("up", judgement, later)
    assert rest_of(health, later) == 0


def test_failures_of_long_ago_are_forgotten():
    health = health_after(*["answered", "retry"] * (ENOUGH // 2 - 1))
    health.note("up", "answered", NOW + 31 * SECOND)
    health.note("up", "retry", NOW + 31 * SECOND)
    assert rest_of(health, NOW + 31 * SECOND) == 0


def test_after_a_rest_one_call_sees_whether_it_is_well_again():
    health = health_after("retry", "retry", "retry")
    later = NOW + 5 * SECOND

    assert [health.acquire("up", later) for _ in range(3)] == [True, False, False]
    assert health.resting(later) == {"up"}
    health.note("up", "answered", later + 1)

    assert health.resting(later + 1) == set()
    assert health.acquire("up", later + 1)
    health.note("up", "retry", later + 2)
    assert health.resting(later + 2) == set()  # its failures are counted from the start


def test_each_rest_is_twice_the_one_before_up_to_the_longest():
    health, now, rests = health_after("retry", "retry", "retry"), NOW, []
    for _ in range(7):
        rests.append(rest_of(health, now))
        now = health.opens_at("up", now)
        assert health.acquire("up", now)
        health.note("up", "retry", now)
    assert rests == [5, 10, 20, 40, 60, 60, 60]


def test_a_call_that_was_to_see_and_never_came_back_is_followed_by_another():
    health = health_after("retry", "retry", "retry")
    assert health.acquire("up", NOW + 5 * SECOND)
    assert not health.acquire("up", NOW + 9 * SECOND)
    assert health.acquire("up", NOW + 10 * SECOND)


def test_calls_asked_before_a_rest_change_nothing_when_they_end_in_it():
    health = health_after("retry", "retry", "retry")
    health.note("up", "retry", NOW + SECOND)
    health.note("up", "answered", NOW + SECOND)
    assert rest_of(health) == 5


def test_a_limit_that_says_when_to_come_back_is_a_pause_and_no_failure():
    health = Health(FALLBACK)
    for _ in range(10):
        health.note("up", "rate_limited", NOW, Pacing(retry_at=NOW + SECOND))
    assert rest_of(health) == 1
    assert not health.rests("up", NOW)
    assert health.acquire("up", NOW + SECOND)
    assert health.acquire("up", NOW + SECOND)


def test_a_limit_that_does_not_say_is_a_failure():
    assert rest_of(health_after("rate_limited", "rate_limited", "rate_limited")) == 5


def test_a_pause_outlasts_a_later_answer():
    health = Health(FALLBACK)
    health.note("up", "retry", NOW, Pacing(retry_at=NOW + 9 * SECOND))
    health.note("up", "answered", NOW + 1, Pacing())
    assert rest_of(health) == 9


def test_there_is_nothing_to_heed_about_one_that_only_answers():
    assert Health(FALLBACK).is_well("new")
    assert health_after("answered", "retry", "caller").is_well("up")
    assert not health_after("retry", "retry", "retry").is_well("up")
    assert not health_after("quota").is_well("up")
    health = health_after("answered")
    health.note("up", "answered", NOW, Pacing(rooms=(Room(9, 10, NOW, NOW + SECOND),)))
    assert not health.is_well("up")


def test_credit_that_ran_out_means_a_long_rest_at_once():
    assert rest_of(health_after("quota")) == QUOTA_REST / SECOND


def test_an_upstream_without_room_is_asked_when_there_is_some():
    health = Health(FALLBACK)
    tokens = Room(100, 1100, NOW, NOW + 10 * SECOND, of_tokens=True)
    health.note("up", "answered", NOW, Pacing(rooms=(tokens,)))
    assert health.resting(NOW) == set()
    assert health.opens_at("up", NOW, 600) == NOW + 5 * SECOND
    health.note("up", "answered", NOW, Pacing(rooms=(Room(0, 10, NOW, NOW + 10 * SECOND),)))
    assert rest_of(health) == 1


class Breaking(RuleBasedStateMachine):
    """Whatever happens, an upstream never rests for ever, nor longer than it may."""

    def __init__(self) -> None:
        super().__init__()
        self.health = Health(FALLBACK)
        self.now = NOW
        self.in_a_row = 0

    @rule(judgement=st.sampled_from(["answered", "retry", "caller", "rate_limited"]))
    def note(self, judgement: str) -> None:
        self.health.note("up", judgement, self.now)

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)

    @rule()
    def ask(self) -> None:
        may = self.health.opens_at("up", self.now) == self.now
        assert self.health.acquire("up", self.now) == may

    @precondition(lambda self: self.health.resting(self.now))
    @rule()
    def outwait(self) -> None:
        self.now = self.health.opens_at("up", self.now)
        assert not self.health.resting(self.now)
        assert self.health.acquire("up", self.now)

    @precondition(lambda self: not self.health.resting(self.now))
    @rule()
    def heal(self) -> None:
        assert self.health.acquire("up", self.now)
        self.health.note("up", "answered", self.now)
        assert not self.health.resting(self.now)

    @invariant()
    def no_rest_is_longer_than_the_longest(self) -> None:
        assert 0 <= self.health.opens_at("up", self.now) - self.now <= FALLBACK.longest_rest


TestBreaking = Breaking.TestCase
TestBreaking.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
