"""Generated traffic: the same for the same dice, and shaped as it claims."""

import json
import random
from collections import Counter
from itertools import pairwise

import pytest

from farthing import dialects
from farthing.schema import read_recorded, write_recorded
from farthing.simulation.composing import compose, read_question
from farthing.simulation.generator import DAY, FEATURES, SECOND, Workload, generate

PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "messages": "/v1/messages",
}


@pytest.fixture(scope="module")
def day():
    return list(generate(Workload(calls=4_000, rate=4_000 / DAY, start=1_790_035_200), random.Random(7)))


def test_equal_dice_give_equal_traffic():
    def lines(seed: int) -> list[bytes]:
        return [write_recorded(recorded) for recorded in generate(Workload(calls=200), random.Random(seed))]

    assert lines(1) == lines(1)
    assert lines(1) != lines(2)


def test_it_is_read_back_from_its_own_format(day):
    for recorded in day[:200]:
        back = read_recorded(write_recorded(recorded))
        assert bytes(back.request) == bytes(recorded.request)
        assert (back.at, back.usage, back.latency) == (recorded.at, recorded.usage, recorded.latency)


def test_calls_come_in_order_and_at_the_asked_rate(day):
    assert all(earlier.at <= later.at for earlier, later in pairwise(day))
    assert (day[-1].at - day[0].at) / SECOND == pytest.approx(DAY, rel=0.15)


def test_the_night_is_quieter_than_the_afternoon(day):
    hours = Counter(recorded.at // SECOND % DAY // 3600 for recorded in day)

    assert sum(hours[hour] for hour in (2, 3, 4, 5)) * 2 < sum(hours[hour] for hour in (14, 15, 16, 17))


def test_every_feature_gets_about_its_share(day):
    counts = Counter(recorded.feature for recorded in day)

    assert counts.keys() == {feature.name for feature in FEATURES}
    for feature in FEATURES:
        assert counts[feature.name] / len(day) == pytest.approx(feature.share, rel=0.2)


def test_several_tenants_models_and_endpoints_take_part_streaming_and_not(day):
    assert len({recorded.tenant for recorded in day}) >= 3
    assert len({recorded.model for recorded in day}) >= 4
    assert {recorded.endpoint for recorded in day} == PATHS.keys()
    assert {recorded.stream for recorded in day} == {True, False}


def test_bodies_are_what_the_gateway_reads(day):
    for recorded in day[:500]:
        path = PATHS[recorded.endpoint]
        call = dialects.decode(recorded.endpoint, bytes(recorded.request), method="POST", path=path)
        assert (call.model, call.stream) == (recorded.model, recorded.stream)


def test_popular_questions_repeat_and_are_worded_differently(day):
    asked = Counter(json.loads(bytes(r.request))["messages"][1]["content"] for r in day if r.feature == "help-centre")
    total = asked.total()
    worded = Counter(text.casefold().replace("how can i", "how do i").rstrip("?") for text in asked)

    assert asked.most_common(1)[0][1] > total / 20
    assert len(asked) < total / 2
    assert worded.most_common(1)[0][1] > 1


def test_a_flatter_popularity_repeats_less():
    def repeats(zipf: float) -> int:
        workload = Workload(calls=1_500, zipf=zipf, features=FEATURES[:1])
        return 1_500 - len({bytes(recorded.request) for recorded in generate(workload, random.Random(3))})

    assert repeats(1.6) > repeats(0.2)


def test_sessions_resend_a_growing_prefix(day):
    turns = [json.loads(bytes(r.request))["messages"] for r in day if r.feature == "live-chat"]
    seen = {json.dumps(messages) for messages in turns}
    longer = [messages for messages in turns if len(messages) > 1]

    assert longer
    assert all(json.dumps(messages[:-2]) in seen for messages in longer)
    assert any(recorded.usage.cache_read for recorded in day if recorded.feature == "live-chat")


def test_usage_is_what_the_stub_would_report(day):
    for recorded in day[:200]:
        answer = compose(recorded.endpoint, read_question(bytes(recorded.request)), 0)
        assert recorded.usage == answer.usage
