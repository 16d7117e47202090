"""Cascades: who may decline to whom, when two answers are the same, and what audits say of a rung."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.dialects import answer_text, fingerprint
from farthing.evaluation.drift import exceeds
from farthing.evaluation.intervals import wilson
from farthing.ledger.drift import Rules, Spared, is_audit, rungs
from farthing.ledger.tally import Tally
from farthing.ledger.verify import verify
from farthing.routing import RouteTable, Watch, above, agree, classify, shown
from farthing.routing.cascading import LONGEST_LABEL
from farthing.schema import Call, Decision, Entry, Reply, Route
from farthing.simulation import openai_answers, wire
from farthing.simulation.answers import Answer
from farthing.simulation.labels import LABELS, right_label, student_answer

CHAT = ("chat",)
STUDENT = Route("intent", "student", CHAT, rank=1, accept=0.9, audit=0.1, gate=0.05)
LARGE = Route("intent", "large", CHAT, rank=2, accept=0.5, audit=0.1, gate=0.05)


def candidates(*routes: Route, model: str = "intent") -> tuple[Route, ...]:
    return RouteTable(routes).candidates(Call("chat", model, b""))


def test_the_last_rank_answers_whatever_comes():
    first, last = candidates(LARGE, STUDENT)
    assert first == STUDENT
    assert (last.accept, last.audit, last.gate) == (0, 0, 0)


def test_who_stands_alone_or_is_asked_by_name_has_nobody_to_decline_to():
    (alone,) = candidates(STUDENT)
    (named,) = candidates(STUDENT, LARGE, model="student/intent")
    assert alone.accept == named.accept == alone.audit == named.gate == 0


def test_peers_of_the_last_rank_all_answer():
    other = msgspec.structs.replace(LARGE, upstream="other", weight=3)
    assert [route.accept for route in candidates(STUDENT, LARGE, other)] == [0.9, 0, 0]


def test_after_a_rung_declined_its_peers_are_passed_over():
    peer = msgspec.structs.replace(STUDENT, upstream="peer")
    assert above([STUDENT, peer, LARGE], STUDENT) == [LARGE]
    assert above([LARGE, STUDENT], LARGE) == []


def test_a_declined_answer_is_no_failure():
    assert classify(Reply(0, ending="declined")) == "declined"


@pytest.mark.parametrize(
    ("one", "other"),
    [("card_arrival", " Card_Arrival.\n"), ("refund", '"refund"'), ("c++", "**C++**"), ("STRASSE", "straße")],
)
def test_labels_agree_however_they_are_dressed(one, other):
    assert agree(one, other)


@pytest.mark.parametrize(("one", "other"), [("c++", "c#"), ("card_arrival", "card arrival"), ("a", "b"), ("", "a")])
def test_other_labels_do_not(one, other):
    assert not agree(one, other)


@given(st.text())
def test_what_stands_around_a_label_does_not_matter(answer):
    assert agree(answer, f' "**{answer}**".\n')


def test_prose_is_compared_and_not_written_down():
    prose = "The order is handled by the billing page and takes two working days, as agreed last week."
    assert len(prose) > LONGEST_LABEL
    assert (shown(prose), shown("one\ntwo"), shown(" Yes. ")) == ("", "", "yes")


# -- the watch


def test_a_rung_steps_aside_once_its_gate_is_exceeded_and_stays_there():
    watch = Watch(STUDENT, exceeds)
    changes = [watch.note(False, "v1") for _ in range(5)]
    assert watch.aside
    assert changes.count(True) == 1
    assert not any(watch.note(True, "v1") for _ in range(500))
    assert watch.aside
    assert (watch.standing.audited, watch.standing.disagreed) == (505, 5)


def test_a_model_that_was_replaced_is_watched_anew():
    watch = Watch(STUDENT, exceeds)
    for _ in range(5):
        watch.note(False, "v1")
    assert watch.note(True, "v2")
    assert not watch.aside
    assert watch.note(True, "v1")
    assert watch.aside, "what was found of a version is not forgotten"


def test_without_a_gate_nobody_steps_aside():
    watch = Watch(msgspec.structs.replace(STUDENT, gate=0.0), exceeds)
    assert not any(watch.note(False, "") for _ in range(100))
    assert watch.standing.disagreed == 100


def test_versions_are_bounded():
    watch = Watch(STUDENT, exceeds)
    for number in range(1000):
        watch.note(True, str(number))
    assert len(watch._versions) <= 8
    assert watch.standing.audited == 1000


# -- what an answer says


@pytest.mark.parametrize("endpoint", ["chat", "completions", "responses", "messages"])
def test_the_text_of_an_answer_is_read_from_every_dialect(endpoint):
    answer = Answer("1", "m", "card_lost", None, mark="made-up")
    assert answer_text(endpoint, wire.plain(endpoint, answer)) == "card_lost"


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("chat", b""),
        ("chat", b"[]"),
        ("chat", b'{"choices": []}'),
        ("chat", b'{"choices": [{"message": {"content": null, "tool_calls": []}}]}'),
        ("messages", b'{"content": [{"type": "tool_use", "text": "x"}]}'),
        ("responses", b'{"output": [{"type": "reasoning", "content": [{"type": "text", "text": "hm"}]}]}'),
        ("embeddings", openai_answers.embeddings(Answer("1", "m", "", None, vectors=([0.5],)))),
    ],
)
def test_what_says_nothing_has_no_text(endpoint, body):
    assert answer_text(endpoint, body) is None


def test_content_in_parts_is_one_text():
    parts = b'[{"type": "text", "text": "card_"}, {"type": "image_url"}, {"type": "text", "text": "lost"}]'
    assert answer_text("chat", b'{"choices": [{"message": {"content": %b}}]}' % parts) == "card_lost"


def test_the_version_is_the_fingerprint():
    assert fingerprint(b'{"system_fingerprint": "abc"}') == "abc"
    assert fingerprint(b'{"system_fingerprint": null}') == fingerprint(b"no") == ""


def test_the_simulated_student_is_right_as_often_as_it_says():
    questions = [b"%d" % number for number in range(4000)]
    said = [(student_answer(question), right_label(question)) for question in questions]
    right = sum(answer == truth for (answer, _), truth in said) / len(said)
    assert right == pytest.approx(sum(confidence for (_, confidence), _ in said) / len(said), abs=0.03)
    assert {truth for _, truth in said} == set(LABELS)


# -- the ledger


def entry(group: int, attempt: int, upstream: str, *decisions: Decision, **changes: object) -> Entry:
    fields = {
        "id": f"c{group}.{attempt}", "group": f"c{group}", "attempt": attempt, "at": group, "endpoint": "chat",
        "model": "intent", "upstream": upstream, "cost": 1 if upstream == "student" else 1000,
        "list_cost": 1 if upstream == "student" else 1000, "status": 200, "decisions": decisions,
    }  # fmt: skip
    return Entry(**{**fields, **changes})


ASKED = Decision("route", "student", {"model": "intent"})
THEN = Decision("route", "large", {"model": "intent"})
ANSWERED = Decision("cascade", "answered", {"rung": "student", "confidence": 0.97, "accept": 0.9})
ESCALATED = Decision("cascade", "escalated", {"rung": "student", "confidence": 0.4, "accept": 0.9})
ASIDE = Decision("cascade", "stepped_aside", {"rung": "student"})


def audit(verdict: str, answer: str = "a", reference: str = "b") -> Decision:
    facts = {"rung": "student", "confidence": 0.97, "answer": answer, "reference": reference}
    return Decision("audit", verdict, facts)


def answered(group: int) -> list[Entry]:
    return [entry(group, 1, "student", ASKED, ANSWERED)]


def audited(group: int, decision: Decision, **changes: object) -> list[Entry]:
    return [*answered(group), entry(group, 2, "large", decision, superseded=True, **changes)]


def escalated(group: int) -> list[Entry]:
    decisions = (ASKED, ESCALATED, THEN)
    return [
        entry(group, 1, "student", *decisions, superseded=True, status=0),
        entry(group, 2, "large", *decisions),
    ]


RULES = Rules(0.05, exceeds, wilson)


def test_figures_of_a_rung_add_up():
    entries = [
        *answered(1),
        *audited(2, audit("agreed", "a", "a")),
        *audited(3, audit("disagreed")),
        *audited(4, audit("unanswered"), error="server_error", status=500, cost=0, list_cost=0),
        *escalated(5),
        entry(6, 1, "large", ASIDE, THEN),
    ]
    assert list(verify(entries)) == []
    (rung,) = rungs(entries, RULES)
    assert (rung.model, rung.upstream) == ("intent", "student")
    assert (rung.answered, rung.escalated, rung.stepped_aside) == (4, 1, 1)
    assert (rung.audited, rung.disagreed, rung.unanswered, rung.share) == (2, 1, 1, 0.5)
    assert rung.low < 0.5 < rung.high
    assert (rung.cost, rung.escalated_cost, rung.audit_cost, rung.unpriced) == (5, 1000, 2000, 0)
    assert rung.confusions[0].answer == "a"
    assert rung.confusions[0].times == 1
    assert not rung.exceeded


def test_what_was_spared_is_estimated_from_audits():
    entries = [
        one
        for group in range(1, 51)
        for one in (audited(group, audit("agreed")) if group % 5 == 0 else answered(group))
    ]
    (rung,) = rungs(entries, RULES)
    assert rung.spared == Spared(50_000, 50_000, 50_000)
    assert rung.net == 50_000 - 50 - 10_000


def test_unknown_is_not_zero():
    entries = [*audited(1, audit("agreed"), cost=None), *audited(2, audit("agreed"))]
    (rung,) = rungs(entries, RULES)
    assert (rung.spared, rung.net, rung.unpriced) == (None, None, 1)


def test_a_correction_of_an_attempt_counts():
    entries = escalated(1)
    changed = msgspec.structs.replace(
        entries[1], id="c1.2~1", cost=500, list_cost=500, decisions=(Decision("rerate", "x"),), corrects="c1.2"
    )
    (rung,) = rungs([*entries, changed], RULES)
    assert rung.escalated_cost == 1500


def test_a_drifting_rung_exceeds_its_gate():
    entries = [
        one for group in range(1, 41) for one in audited(group, audit("disagreed" if group % 3 == 0 else "agreed"))
    ]
    (rung,) = rungs(entries, RULES)
    assert rung.exceeded
    assert rungs(entries, Rules(0.5, exceeds, wilson))[0].exceeded is False


def test_a_trial_of_a_rung_that_stands_aside_says_nothing_of_what_it_spares():
    trial = entry(1, 2, "student", audit("disagreed"), superseded=True)
    entries = [entry(1, 1, "large", ASIDE, THEN), trial]
    assert list(verify(entries)) == []
    (rung,) = rungs(entries, RULES)
    assert (rung.audited, rung.spared, rung.audit_cost) == (1, None, 1)


def test_a_cascade_of_three_tells_its_rungs_apart():
    second = Decision("cascade", "answered", {"rung": "middle", "confidence": 0.8, "accept": 0.7})
    decisions = (ASKED, ESCALATED, Decision("route", "middle"), second)
    entries = [
        entry(1, 1, "student", *decisions, superseded=True, status=0),
        entry(1, 2, "middle", *decisions),
    ]
    middle, student = rungs(entries, RULES)
    assert (student.cost, student.escalated_cost, student.answered, student.escalated) == (1, 1000, 0, 1)
    assert (middle.cost, middle.escalated_cost, middle.answered, middle.escalated) == (1000, 0, 1, 0)


def test_an_audited_call_is_one_call():
    tally = Tally()
    for one in audited(1, audit("agreed")):
        tally.add(one)
    assert (tally.totals().calls, tally.totals().attempts, tally.totals().cost) == (1, 2, 1001)
    assert [is_audit(one) for one in audited(1, audit("lost"))] == [False, True]


def test_a_call_without_its_answer_is_still_found_out():
    lost = [msgspec.structs.replace(one, superseded=True) for one in answered(1)]
    assert any("one answer" in sentence for sentence in verify(lost))
