"""What providers say of when they may be asked again, in each of their ways."""

from datetime import UTC, datetime
from email.utils import format_datetime
from timeit import repeat

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farthing.dialects import read_pacing
from farthing.dialects.pacing import LONGEST
from farthing.schema.pacing import Pacing, Room

SECOND = 10**9
NOW = 1_795_000_000 * SECOND


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(NOW // SECOND + seconds, UTC)


def wait_for(pacing: Pacing, tokens: int, now: int) -> int:
    return max(pacing.fits_at(tokens) - now, 0)


def http_date(seconds: int) -> bytes:
    return format_datetime(at(seconds), usegmt=True).encode()


def pause(*headers: tuple[bytes, bytes], status: int = 429) -> float | None:
    pacing = read_pacing(status, headers, NOW)
    return None if pacing is None or pacing.retry_at is None else (pacing.retry_at - NOW) / SECOND


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([(b"retry-after", b"7")], 7),
        ([(b"retry-after", b"0.5")], 0.5),
        ([(b"retry-after", b"1.05")], 1.05),
        ([(b"retry-after", b"20s")], 20),
        ([(b"retry-after", http_date(90))], 90),
        ([(b"retry-after", http_date(-90))], 0),
        ([(b"retry-after-ms", b"250")], 0.25),
        ([(b"retry-after", b"1"), (b"retry-after-ms", b"1250.5")], 1.2505),
        ([(b"retry-after", b"3"), (b"retry-after-ms", b"soon")], 3),
        ([(b"retry-after", b"999999999")], 3600),
        ([(b"retry-after", b"-5")], None),
        ([(b"retry-after", b"nan")], None),
        ([(b"retry-after", b"inf")], None),
        ([(b"retry-after", b"1e9")], None),
        ([(b"retry-after", b"")], None),
        ([(b"retry-after", b"7" + b" " * 100)], None),
        ([(b"retry-after", b"Fri, 99 Foo 2026 99:99:99 GMT")], None),
        ([(b"retry-after", b"\xef\xbc\x97")], None),
    ],
)
def test_a_pause_is_read_in_every_form(headers, seconds):
    assert pause(*headers) == (None if seconds is None else pytest.approx(seconds))


def test_only_a_refusal_asks_for_a_pause():
    assert pause((b"retry-after", b"7"), status=200) is None
    assert pause((b"retry-after", b"7"), status=503) == 7
    assert pause((b"retry-after", b"7"), status=400) == 7


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        (b"6m0s", 360),
        (b"1s", 1),
        (b"120ms", 0.12),
        (b"2m59.56s", 179.56),
        (b"1h2m3s", 3600),
        (b"12", 12),
        (b"7.06s", 7.06),
        (b"1.5s", 1.5),
    ],
)
def test_openais_resets_are_durations(reset, seconds):
    headers = ((b"x-ratelimit-remaining-requests", b"0"), (b"x-ratelimit-reset-requests", reset))
    pacing = read_pacing(200, headers, NOW)
    assert wait_for(pacing, 1, NOW) == pytest.approx(seconds * SECOND)


def test_anthropics_resets_are_instants():
    headers = (
        (b"anthropic-ratelimit-requests-limit", b"50"),
        (b"anthropic-ratelimit-requests-remaining", b"49"),
        (b"anthropic-ratelimit-requests-reset", at(1).isoformat().replace("+00:00", "Z").encode()),
        (b"anthropic-ratelimit-tokens-remaining", b"0"),
        (b"anthropic-ratelimit-tokens-reset", at(30).isoformat().encode()),
        (b"anthropic-ratelimit-output-tokens-remaining", b"0"),
        (b"anthropic-ratelimit-output-tokens-reset", at(40).isoformat().encode()),
    )
    pacing = read_pacing(200, headers, NOW)
    assert len(pacing.rooms) == 3
    assert wait_for(pacing, 1, NOW) == 40 * SECOND
    assert wait_for(pacing, 1, NOW + 41 * SECOND) == 0


def test_anthropics_limit_of_tokens_is_taken_of_by_tokens_and_an_instant_without_a_zone_is_in_utc():
    headers = (
        (b"anthropic-ratelimit-tokens-remaining", b"10"),
        (b"anthropic-ratelimit-tokens-limit", b"20"),
        (b"anthropic-ratelimit-tokens-reset", at(30).replace(tzinfo=None).isoformat().encode()),
    )
    pacing = read_pacing(200, headers, NOW)
    assert [wait_for(pacing, tokens, NOW) / SECOND for tokens in (10, 15, 20)] == [0, 15, 30]


def test_a_limit_fills_up_steadily_until_its_reset():
    headers = (
        (b"x-ratelimit-limit-tokens", b"30000"),
        (b"x-ratelimit-remaining-tokens", b"6000"),
        (b"x-ratelimit-reset-tokens", b"48s"),
    )
    pacing = read_pacing(200, headers, NOW)
    assert [wait_for(pacing, tokens, NOW) / SECOND for tokens in (1, 6000, 6500, 30000, 10**9)] == [0, 0, 1, 48, 48]
    assert wait_for(pacing, 6500, NOW + SECOND) == 0


def test_a_limit_of_requests_asks_for_one_whatever_the_tokens():
    headers = ((b"x-ratelimit-remaining-requests", b"1"), (b"x-ratelimit-reset-requests", b"1h"))
    assert wait_for(read_pacing(200, headers, NOW), 10**6, NOW) == 0


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"content-type", b"application/json"), (b"x-request-id", b"1")),
        ((b"x-ratelimit-remaining-requests", b"0"),),  # and no word of when there is more
        ((b"x-ratelimit-remaining-tokens", b"-1"), (b"x-ratelimit-reset-tokens", b"1s")),
        ((b"x-ratelimit-remaining-tokens", b"many"), (b"x-ratelimit-reset-tokens", b"1s")),
        ((b"x-ratelimit-remaining-tokens", b"0"), (b"x-ratelimit-reset-tokens", b"later")),
        ((b"anthropic-ratelimit-tokens-remaining", b"0"), (b"anthropic-ratelimit-tokens-reset", b"2026-13-45")),
    ],
)
def test_what_makes_no_sense_says_nothing(headers):
    assert read_pacing(200, headers, NOW) is None


NAMES = [
    b"retry-after", b"retry-after-ms", b"x-ratelimit-remaining-requests", b"x-ratelimit-limit-requests",
    b"x-ratelimit-reset-requests", b"x-ratelimit-remaining-tokens", b"x-ratelimit-limit-tokens",
    b"x-ratelimit-reset-tokens", b"anthropic-ratelimit-tokens-remaining", b"anthropic-ratelimit-tokens-limit",
    b"anthropic-ratelimit-tokens-reset", b"anthropic-ratelimit-input-tokens-remaining",
    b"anthropic-ratelimit-input-tokens-reset", b"server",
]  # fmt: skip
values = st.one_of(
    st.binary(max_size=40),
    st.from_regex(rb"[0-9.]{0,8}(ms|s|m|h|d|)([0-9]{1,5}s)?", fullmatch=True),
    st.integers(-(10**30), 10**30).map(lambda number: str(number).encode()),
    st.from_regex(rb"(Mon|Fri), [0-9]{1,2} (Jan|Nov|Xyz) [0-9]{1,5} [0-9]{2}:[0-9]{2}:[0-9]{2} (GMT|[+-][0-9]{4})"),
    st.datetimes().map(lambda moment: moment.isoformat().encode()),
    st.from_regex(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})", fullmatch=True),
)


@given(
    st.sampled_from([200, 400, 429, 503]),
    st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=14),
    st.integers(0, 10**9),
)
@example(429, [(b"retry-after", b"Mon, 1 Jan 0001 00:00:00 -2359")], 1)
@example(429, [(b"retry-after", b"0001-01-01")], 1)
@example(
    200,
    [
        (b"x-ratelimit-remaining-tokens", b"5"),
        (b"x-ratelimit-limit-tokens", b"3"),
        (b"x-ratelimit-reset-tokens", b"1s"),
    ],
    9,
)
@example(
    200,
    [
        (b"anthropic-ratelimit-tokens-remaining", b"0"),
        (b"anthropic-ratelimit-tokens-reset", b"0001-01-01T00:00:00+23:59"),
    ],
    1,
)
def test_no_header_can_do_harm(status, headers, tokens):
    pacing = read_pacing(status, tuple(headers), NOW)
    if pacing is not None:
        assert 0 <= wait_for(pacing, tokens, NOW) <= LONGEST
        assert wait_for(pacing, tokens, NOW + LONGEST) == 0


@given(
    st.integers(0, 100),
    st.integers(0, 100) | st.none(),
    st.integers(0, 10**6),
    st.integers(0, 200),
    st.integers(0, 200),
)
def test_a_larger_call_never_waits_for_less(remaining, limit, takes, fewer, more):
    pacing = Pacing(rooms=(Room(remaining, limit, NOW, NOW + takes, of_tokens=True),))
    assert wait_for(pacing, min(fewer, more), NOW) <= wait_for(pacing, max(fewer, more), NOW) <= takes


def test_headers_that_say_nothing_cost_next_to_nothing():
    headers = tuple((b"x-header-%d" % number, b"value") for number in range(15))
    once = min(repeat(lambda: read_pacing(200, headers, NOW), number=2000, repeat=20)) / 2000
    print(f"read_pacing of 15 headers that say nothing: {once * 1e9:.0f} ns")
    assert once < 5e-6
