"""A small model answers what it is sure of; the next rank is asked at once for the rest."""

import json
from collections.abc import Sequence
from time import time_ns

import msgspec
import pytest
from tests.cascade_sample import ACCEPT, cascade, chat, mistaken, said, sure, unsure

from farthing.config import Budget, Fallback, Route, Settings, Upstream
from farthing.ledger.drift import is_audit
from farthing.ledger.tally import Tally
from farthing.ledger.verify import verify
from farthing.schema import Decision, Entry, Recorded, Usage
from farthing.simulation.labels import LABELS
from farthing.wiring.replaying import replay_traffic

PATH = "/v1/chat/completions"


def rung(entry: Entry) -> list[Decision]:
    return [decision for decision in entry.decisions if decision.lever == "cascade"]


def totals(entries: Sequence[Entry]):
    tally = Tally()
    for entry in entries:
        tally.add(entry)
    return tally.totals()


def text(answer) -> str:
    return answer.json["choices"][0]["message"]["content"]


def test_what_the_student_is_sure_of_it_answers(gateway_with):
    gateway, body = gateway_with(**cascade()), next(sure())

    answer = gateway.post(PATH, body)

    label, confidence, _ = said(body)
    assert (answer.status, text(answer)) == (200, label)
    (entry,) = gateway.entries()
    assert (entry.upstream, entry.superseded) == ("student", False)
    assert rung(entry) == [
        Decision("cascade", "answered", {"rung": "student", "confidence": confidence, "accept": ACCEPT})
    ]
    assert entry.cost > 0


def test_a_mistake_it_is_sure_of_goes_back_all_the_same(gateway_with):
    gateway, body = gateway_with(**cascade()), next(mistaken())
    label, _, right = said(body)
    assert text(gateway.post(PATH, body)) == label != right


def test_what_it_is_not_sure_of_is_asked_of_the_next_rank_at_once(gateway_with):
    gateway, body = gateway_with(**cascade()), next(unsure())

    answer = gateway.post(PATH, body)

    _, confidence, right = said(body)
    assert (answer.status, text(answer)) == (200, right)
    declined, answered = gateway.entries()
    assert (declined.upstream, declined.superseded, declined.error, declined.status) == ("student", True, "", 0)
    assert declined.cost > 0
    assert (answered.upstream, answered.superseded, answered.status) == ("large", False, 200)
    assert rung(answered) == [
        Decision("cascade", "escalated", {"rung": "student", "confidence": confidence, "accept": ACCEPT})
    ]
    assert not any(decision.lever == "fallback" for decision in answered.decisions)
    assert list(verify(gateway.entries())) == []
    sums = totals(gateway.entries())
    assert (sums.calls, sums.attempts, sums.failures, sums.errors) == (1, 2, 0, 0)
    assert answered.latency < 200_000, "it waited as if something had failed"


def test_a_stream_begins_with_the_rung_that_answers(gateway_with):
    gateway = gateway_with(**cascade())
    for body, upstream in ((next(sure(stream=True)), "student"), (next(unsure(stream=True)), "large")):
        answer = gateway.post(PATH, body)
        frames = [json.loads(line[6:]) for line in answer.body.split(b"\n\n") if line.startswith(b"data: {")]
        spoken = "".join(frame["choices"][0]["delta"].get("content") or "" for frame in frames if frame["choices"])
        assert spoken == said(body)[0 if upstream == "student" else 2]
        assert answer.body.count(b"[DONE]") == 1
        assert gateway.entries()[-1].upstream == upstream
    assert [entry.ttft is None for entry in gateway.entries()] == [False, True, False]


@pytest.mark.parametrize("routes", ["alone", "student above student"])
def test_the_last_rung_answers_whatever_comes(gateway_with, routes):
    settings = cascade()
    first = settings["routes"][0]
    again = Route(model="intent", upstream="large", served_as="stub-student", rank=2, accept=ACCEPT)
    gateway = gateway_with(**{**settings, "routes": (first,) if routes == "alone" else (first, again)})
    body = next(unsure())

    answer = gateway.post(PATH, body)

    assert (answer.status, text(answer)) == (200, said(body)[0])
    assert [entry.upstream for entry in gateway.entries()] == ["student", "large"][: 1 if routes == "alone" else 2]


def test_a_model_asked_by_its_upstream_declines_nothing(gateway_with):
    gateway, body = gateway_with(**cascade()), next(unsure())
    answer = gateway.post(PATH, {**body, "model": "student/intent"})
    assert text(answer) == said(body)[0]


def test_a_student_that_fails_is_followed_as_ever(gateway_with):
    settings = {**cascade(), "fallback": Fallback(attempts=2)}
    routes = (msgspec.structs.replace(settings["routes"][0], served_as="stub-500"), settings["routes"][1])
    gateway, body = gateway_with(**{**settings, "routes": routes}), next(unsure())

    assert text(gateway.post(PATH, body)) == said(body)[2]

    failed, answered = gateway.entries()
    assert failed.error
    assert rung(answered) == []


def test_a_decline_is_none_of_the_attempts_and_is_not_asked_again(gateway_with):
    settings = {**cascade(large="stub-500"), "fallback": Fallback(attempts=2, backoff=0.001, longest_backoff=0.002)}
    gateway = gateway_with(**settings)

    answer = gateway.post(PATH, next(unsure()))

    assert answer.status == 500
    assert [entry.upstream for entry in gateway.entries()] == ["student", "large", "large"]
    assert list(verify(gateway.entries())) == []


def test_while_the_next_rank_rests_nobody_answers_what_the_student_is_not_sure_of(gateway_with):
    settings = {**cascade(large="stub-500"), "fallback": Fallback(attempts=1, failures=1, rest=60.0)}
    gateway, doubtful = gateway_with(**settings), unsure()
    gateway.post(PATH, next(doubtful))

    refused = gateway.post(PATH, next(doubtful))

    assert refused.status == 503
    assert refused.json["error"]["message"].startswith("The upstream large takes no calls")
    last = gateway.entries()[-1]
    assert (last.upstream, last.status, last.error, last.superseded) == ("student", 503, "unavailable", False)
    assert last.cost > 0
    assert totals(gateway.entries()).errors == 2
    assert gateway.post(PATH, next(sure())).status == 200
    assert list(verify(gateway.entries())) == []


def test_each_rung_is_held_for_by_itself(gateway_with):
    """A budget with room for the student, and none for 131,072 tokens of the larger model."""
    settings = {**cascade(large="gpt-6-luna"), "budgets": {"all": Budget(usd="0.03")}}
    gateway = gateway_with(**settings)

    assert gateway.post(PATH, next(sure())).status == 200
    refused = gateway.post(PATH, next(unsure()))

    assert refused.status == 402
    answered, declined = gateway.entries()
    assert (declined.upstream, declined.error) == ("student", "budget_exceeded")
    (account,) = gateway.accounts()
    assert account.balance.spent == answered.cost + declined.cost
    assert account.balance.held == account.balance.expired == 0


def test_what_a_rung_cannot_read_the_next_rank_is_asked(gateway_with, upstream_that):
    refusal = b'{"error": {"message": "Too long.", "type": "invalid_request_error", "code": "context_length_exceeded"}}'
    head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(refusal)
    small = upstream_that(lambda client, _: client.sendall(head + refusal))
    settings = cascade()
    student = Upstream(provider="openai", api_key="env:KEY", base_url=f"http://127.0.0.1:{small.port}/v1")
    settings["upstreams"] = {**settings["upstreams"], "student": student}
    gateway, body = gateway_with(environ={"KEY": "k"}, **settings), next(sure())

    assert text(gateway.post(PATH, body)) == said(body)[2]

    refused, _ = gateway.entries()
    assert (refused.status, refused.error, refused.superseded) == (400, "context_length_exceeded", True)
    assert rung(refused)[0].facts["confidence"] is None


def test_an_upstream_that_tells_no_confidence_answers(gateway_with):
    settings = cascade()
    routes = (msgspec.structs.replace(settings["routes"][0], served_as="stub-labeller"), settings["routes"][1])
    gateway, body = gateway_with(**{**settings, "routes": routes}), next(unsure())
    assert text(gateway.post(PATH, body)) == said(body)[2]
    (entry,) = gateway.entries()
    assert rung(entry)[0].verdict == "answered"


def test_a_recording_is_replayed_through_a_cascade(tmp_path):
    traffic = [
        Recorded(at=number * 10**9, model="intent", usage=Usage(input=100, output=3), latency=1000)
        for number in range(5)
    ]
    outcome = replay_traffic(Settings(**cascade(audit=1.0, gate=0.05)), traffic, time_ns())
    assert (outcome.totals.calls, outcome.totals.attempts, outcome.totals.errors) == (5, 5, 0)
    assert outcome.totals.paid > 0


def test_an_embedded_model_is_a_rung(gateway_with, tmp_path):
    pytest.importorskip("onnxruntime", reason="farthing[engine] is not installed")
    from tests.engine_sample import bag

    settings = cascade(audit=1.0)
    folder = bag(tmp_path / "bag")
    student = Upstream(kind="embedded", folder=str(folder), hourly_usd="0.05")
    settings["upstreams"] = {**settings["upstreams"], "student": student}
    settings["routes"] = (msgspec.structs.replace(settings["routes"][0], served_as="bag"), settings["routes"][1])
    gateway = gateway_with(**settings)

    confident = gateway.post(PATH, chat("refund payment"))
    doubtful = gateway.post(PATH, chat("refund other other parcel other"))
    streamed = gateway.post(PATH, chat("courier late", stream=True))
    empty = gateway.post(PATH, chat(" "))

    assert text(confident) == "billing"
    assert text(doubtful) in LABELS
    assert b'"delivery"' in streamed.body
    assert text(empty) in LABELS, "what the engine refuses, the next rank is asked"
    by_call: dict[str, list[Entry]] = {}
    for entry in gateway.entries():
        if not is_audit(entry):
            by_call.setdefault(entry.group, []).append(entry)
    assert [[entry.upstream for entry in group] for group in by_call.values()] == [
        ["student"],
        ["student", "large"],
        ["student"],
        ["student", "large"],
    ]
    assert [rung(group[0])[0].verdict for group in by_call.values()] == ["answered", "escalated"] * 2
    assert rung(by_call[next(iter(by_call))][0])[0].facts["confidence"] > ACCEPT
