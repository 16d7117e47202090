"""A large model labels texts through a real gateway: what is kept, paid, asked again, left out, and what ends it."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.compress.job import Labeller
from farthing.compress.labelling.kept import Kept, KeptAnswers
from farthing.compress.labelling.labeller import ATTEMPTS, HOPELESS, Labelling, label_texts, label_through
from farthing.compress.labelling.questions import BRIEF, MOST_CHARACTERS, Sought
from farthing.compress.progress import Silence
from farthing.config import Budget, ExactCache, Key, Upstream
from farthing.errors import (
    BudgetExceeded,
    ConfigError,
    RequestError,
    TrafficError,
    Unauthorized,
    UnknownModel,
    UpstreamError,
    UpstreamGarbage,
    UpstreamUnreachable,
)
from farthing.providers.http import HttpSettings, HttpUpstream
from farthing.schema import Recorded, Usage, write_recorded

LABELS = ("track_order", "cancel_order", "no_signal", "Bill: too high")
TEXTS = ("Where is my parcel?", "Please stop the order.", "No bars at all here.", "Why is this bill so high?")
SAID = dict(zip(TEXTS, LABELS, strict=True))
MODEL = "gpt-6-luna"
NO_CACHE = ExactCache(enabled=False)


def labeller(url: str, **changes: object) -> Labeller:
    return Labeller(**{"model": MODEL, "base_url": f"{url}/v1", "concurrency": 2, **changes})


class Heard(Silence):
    """Progress as it was told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, dict[str, float]]] = []
        self.notes: list[str] = []

    def step(self, done: int, total: int, **figures: float) -> None:
        self.steps.append((done, total, figures))

    def note(self, text: str) -> None:
        self.notes.append(text)


class Labels:
    """Labelling into a file of the test's own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard = Heard()

    def of(
        self, asked: Labeller, texts: Sequence[str] = TEXTS, key: str = "", labels: Sequence[str] = LABELS
    ) -> Labelling:
        return label_texts(texts, labels, asked, key, self.path, self.heard)

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()] if self.path.exists() else []


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    return Labels(tmp_path / "labels" / "answers.jsonl")


def chat(text: str, **choice: object) -> bytes:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 90, "completion_tokens": 4, "total_tokens": 94}
    choices = [{"index": 0, "message": message, "finish_reason": "stop", **choice}]
    return json.dumps({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
                       "choices": choices, "usage": usage}).encode()  # fmt: skip


Reply = Callable[[dict, int], "tuple[int, bytes] | tuple[int, bytes, str]"]


@pytest.fixture
def model_that(upstream_that) -> Callable[[Reply], "Model"]:
    """A large model behind HTTP/1.1 that replies to a request's body, and how often that text was asked before."""
    return lambda reply: Model(upstream_that, reply)


class Model:
    def __init__(self, upstream_that: Callable, reply: Reply) -> None:
        self.reply = reply
        self.bodies: list[dict] = []
        self.upstream = upstream_that(self._answer)
        self.url = f"http://127.0.0.1:{self.upstream.port}"

    @property
    def settings(self) -> dict[str, object]:
        address = f"{self.url}/v1"
        return {"upstreams": {"big": Upstream(provider="openai", base_url=address, api_key="env:BIG", models=("*",))}}

    def _answer(self, client, request: bytes) -> None:
        body = json.loads(request.partition(b"\r\n\r\n")[2])
        before = sum(text_of(body) == text_of(earlier) for earlier in self.bodies)
        self.bodies.append(body)
        status, data, *headers = self.reply(body, before)
        head = "".join(f"{line}\r\n" for line in headers)
        client.sendall(f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{head}"
                       f"content-length: {len(data)}\r\n\r\n".encode() + data)  # fmt: skip


def text_of(body: dict) -> str:
    return body["messages"][-1]["content"]


def said(body: dict, before: int) -> tuple[int, bytes]:
    return 200, chat(SAID.get(text_of(body), "something else"))


def error(message: str, code: str = "") -> bytes:
    return json.dumps({"error": {"message": message, "type": code, "code": code}}).encode()


ENVIRON = {"BIG": "sk-big"}


# Through the gateway, from a recording


def recording(path: Path, asked: Labeller, said: dict[str, str]) -> Path:
    """A traffic file in which a large model said so, with the tokens that it took."""
    sought = Sought.of(LABELS, asked)
    usage = Usage(input=90, output=4)
    path.write_bytes(b"".join(
        write_recorded(Recorded(at=at, model=MODEL, request=msgspec.Raw(sought.body(text, 0, BRIEF)), usage=usage,
                                reply=msgspec.Raw(chat(answer)))).rstrip(b"\n") + b"\n"
        for at, (text, answer) in enumerate(said.items())
    ))  # fmt: skip
    return path


@pytest.fixture
def recorded(gateway_with, tmp_path) -> Callable[..., tuple]:
    def start(said: dict[str, str], **changes: object) -> tuple:
        path = recording(tmp_path / "traffic.jsonl", labeller("http://127.0.0.1"), said)
        upstream = Upstream(kind="recorded", provider="openai", models=("*",), recording=str(path))
        gateway = gateway_with(upstreams={"recording": upstream}, **changes)
        return gateway, labeller(gateway.url)

    return start


def test_labels_come_back_in_the_order_of_the_texts_with_what_they_cost(recorded, labels):
    gateway, asked = recorded(SAID)

    found = labels.of(asked)

    assert [(one.text, one.label) for one in found.labelled] == list(SAID.items())
    assert {one.confidence for one in found.labelled} == {1.0}
    assert {one.model for one in found.labelled} == {MODEL}
    assert (found.asked, found.strays, found.unsure, found.refused, found.unpriced) == (4, 0, 0, 0, 0)
    entries = gateway.entries()
    assert found.cost == sum(entry.cost for entry in entries) > 0
    assert sorted(one.cost for one in found.labelled) == sorted(entry.cost for entry in entries)
    assert labels.heard.steps[-1] == (4, 4, {"spent_usd": found.cost / 10**12})
    assert labels.heard.notes == [f"{MODEL} is asked for 4 labels; 0 are kept already."]


def test_asked_again_nothing_is_bought_twice(recorded, labels):
    gateway, asked = recorded(SAID)
    first = labels.of(asked)

    again = labels.of(asked)

    assert again.asked == 0
    assert again.labelled == first.labelled
    assert again.cost == first.cost
    assert len(gateway.entries()) == 4


def test_only_texts_that_are_new_are_asked(recorded, labels):
    _, asked = recorded(SAID)
    labels.of(asked, TEXTS[:3])

    found = labels.of(asked, TEXTS)

    assert found.asked == 1
    assert [one.label for one in found.labelled] == list(LABELS)


def test_answers_that_are_no_label_are_counted_and_left_out(recorded, labels):
    said = {**SAID, TEXTS[1]: "I would say it is about cancelling.", TEXTS[2]: ""}
    _, asked = recorded(said)

    found = labels.of(asked)

    assert [one.text for one in found.labelled] == [TEXTS[0], TEXTS[3]]
    assert found.strays == 2
    assert set(found.examples) == {"I would say it is about cancelling.", ""}
    assert found.cost == 2 * sum(one.cost for one in found.labelled)  # the others were paid for as well


def test_a_text_given_twice_is_asked_once_and_an_empty_one_not_at_all(recorded, labels):
    gateway, asked = recorded(SAID)

    found = labels.of(asked, [TEXTS[0], "", TEXTS[0], "  "])

    assert [one.text for one in found.labelled] == [TEXTS[0]]
    assert len(gateway.entries()) == 1


@pytest.mark.parametrize(
    "change",
    [{"instructions": "Which is it?"}, {"model": "gpt-6-sol"}, {"votes": 2}],
    ids=lambda change: next(iter(change)),
)
def test_what_was_answered_to_another_question_is_not_taken_for_an_answer(change, gateway_with, model_that, labels):
    model = model_that(said)
    gateway = gateway_with(ENVIRON, **model.settings)
    labels.of(labeller(gateway.url))

    assert labels.of(labeller(gateway.url, **change)).asked == 4 * change.get("votes", 1)


def test_other_labels_are_another_question_and_their_order_is_not(recorded, labels):
    _, asked = recorded(SAID)
    labels.of(asked)

    assert labels.of(asked, labels=LABELS[::-1]).asked == 0
    with pytest.raises(UnknownModel):  # how a recording answers what was never asked
        labels.of(asked, labels=(*LABELS, "praise"))


# Votes


def test_votes_are_shares_and_ask_each_time_another_question(gateway_with, model_that, labels):
    def divided(body: dict, before: int) -> tuple[int, bytes]:
        disagrees = text_of(body) == TEXTS[0] and before == 1
        return 200, chat("no_signal" if disagrees else SAID[text_of(body)])

    model = model_that(divided)
    gateway = gateway_with(ENVIRON, **model.settings, cache=ExactCache(max_temperature=2.0))

    found = labels.of(labeller(gateway.url, votes=3, concurrency=1))

    assert [(one.label, one.confidence) for one in found.labelled] == [
        ("track_order", 2 / 3),
        ("cancel_order", 1.0),
        ("no_signal", 1.0),
        ("Bill: too high", 1.0),
    ]
    assert found.asked == 12
    assert len({json.dumps(body) for body in model.bodies}) == 12  # a cache that shares answers shares none of these
    assert {body["temperature"] for body in model.bodies} == {1}


def test_a_label_with_too_few_votes_is_left_out(gateway_with, model_that, labels):
    model = model_that(lambda body, before: (200, chat(LABELS[before] if text_of(body) == TEXTS[0] else LABELS[1])))
    gateway = gateway_with(ENVIRON, **model.settings)

    found = labels.of(labeller(gateway.url, votes=3, confidence=0.6, concurrency=1), TEXTS[:2])

    assert [one.text for one in found.labelled] == [TEXTS[1]]
    assert found.unsure == 1


def test_more_votes_ask_only_for_those_that_are_missing(gateway_with, model_that, labels):
    gateway = gateway_with(ENVIRON, **model_that(said).settings)
    labels.of(labeller(gateway.url, votes=2))

    assert labels.of(labeller(gateway.url, votes=5)).asked == 3 * 4


def test_one_vote_is_asked_without_chance(gateway_with, model_that, labels):
    model = model_that(said)
    gateway = gateway_with(ENVIRON, **model.settings)
    labels.of(labeller(gateway.url))

    assert {body["temperature"] for body in model.bodies} == {0}
    assert max(body["max_tokens"] for body in model.bodies) < 64


# What ends it, and what is kept


def test_a_budget_that_is_spent_ends_it_with_what_was_bought(gateway_with, model_that, labels):
    model = model_that(said)
    texts = [f"{TEXTS[0]} Number {number}." for number in range(40)]
    model.reply = lambda body, before: (200, chat("track_order"))
    gateway = gateway_with(ENVIRON, **model.settings, budgets={"all": Budget(usd="0.0005")}, cache=NO_CACHE)

    with pytest.raises(BudgetExceeded) as refused:
        labels.of(labeller(gateway.url), texts)

    kept = len(labels.lines)
    assert 0 < kept < 40
    assert kept == len({text_of(body) for body in model.bodies})  # nothing was bought and lost
    assert refused.value.facts["kept"] == kept
    assert "budget all" in refused.value.message
    assert str(labels.path) in refused.value.hint
    richer = gateway_with(ENVIRON, **model.settings, cache=NO_CACHE)
    assert labels.of(labeller(richer.url), texts).asked == 40 - kept


def test_a_wrong_key_ends_it_at_once(gateway_with, model_that, labels):
    model = model_that(said)
    keys = {"ann": Key(secret="env:ANN")}
    gateway = gateway_with({**ENVIRON, "ANN": "fk-ann"}, **model.settings, keys=keys)

    with pytest.raises(Unauthorized):
        labels.of(labeller(gateway.url), key="fk-bob")
    assert labels.of(labeller(gateway.url), key="fk-ann").asked == 4
    assert len(model.bodies) == 4


def test_a_model_that_nobody_serves_is_named(gateway_with, labels):
    gateway = gateway_with(upstreams={"stub": Upstream(kind="stub", models=("gpt-6-sol",))})

    with pytest.raises(UnknownModel, match="gpt-6-luna") as unknown:
        labels.of(labeller(gateway.url))
    assert "labeller.model" in unknown.value.hint


def test_prose_in_place_of_labels_ends_it_before_much_is_spent(gateway, labels):
    texts = [f"Where is parcel {number}?" for number in range(HOPELESS * 4)]

    with pytest.raises(UpstreamGarbage, match="None of the first"):  # the stub answers so
        labels.of(labeller(gateway.url), texts)
    assert HOPELESS <= len(labels.lines) <= HOPELESS + 2


def test_a_gateway_that_is_not_there_is_said_to_be(labels, monkeypatch):
    monkeypatch.setattr("farthing.compress.labelling.labeller.FIRST_WAIT_S", 0.01)

    with pytest.raises(UpstreamUnreachable, match=r"127\.0\.0\.1:9"):
        labels.of(labeller("http://127.0.0.1:9"))


def test_failures_that_pass_are_waited_for(model_that, labels):
    def after_a_while(body: dict, before: int) -> tuple:
        if before == 0:
            return 429, error("slow down"), "retry-after: 0"
        if before == 1:
            return 503, error("busy"), "retry-after: 0"
        return said(body, before)

    model = model_that(after_a_while)

    found = labels.of(labeller(model.url))

    assert [one.label for one in found.labelled] == list(LABELS)
    assert len(model.bodies) == 12


def test_retry_after_is_waited_for_by_all(model_that, labels):
    times: list[float] = []

    def limited(body: dict, before: int) -> tuple:
        times.append(time.monotonic())
        return (429, error("slow down"), "retry-after: 1") if len(times) == 1 else said(body, before)

    labels.of(labeller(model_that(limited).url, concurrency=1))

    assert times[1] - times[0] >= 1.0


def test_failures_that_last_end_it_after_some_attempts(model_that, labels, monkeypatch):
    monkeypatch.setattr("farthing.compress.labelling.labeller.FIRST_WAIT_S", 0.01)
    model = model_that(lambda body, before: (500, error("out of order")))

    with pytest.raises(UpstreamError, match=r"6 times in a row.*out of order"):
        labels.of(labeller(model.url, concurrency=1))
    assert len(model.bodies) == ATTEMPTS


def test_an_answer_that_is_no_chat_completion_is_asked_for_again(model_that, labels, monkeypatch):
    monkeypatch.setattr("farthing.compress.labelling.labeller.FIRST_WAIT_S", 0.01)
    garbled = [b"<html>", b'{"choices": []}', b'{"choices": [{"message": {"content": "\xff"}}]}']
    model = model_that(lambda body, before: (200, garbled[before]) if before < 3 else said(body, before))

    assert len(labels.of(labeller(model.url)).labelled) == 4


def test_a_text_that_is_refused_is_left_out_and_the_others_go_on(model_that, labels):
    def filtered(body: dict, before: int) -> tuple[int, bytes]:
        return (400, error("filtered")) if text_of(body) == TEXTS[1] else said(body, before)

    found = labels.of(labeller(model_that(filtered).url))

    assert [one.text for one in found.labelled] == [TEXTS[0], TEXTS[2], TEXTS[3]]
    assert found.refused == 1


def test_where_nobody_says_what_it_cost_it_is_unknown_and_not_nothing(model_that, labels):
    dated = chat("no_signal").replace(MODEL.encode(), b"gpt-6-luna-2026-05")

    found = labels.of(labeller(model_that(lambda body, before: (200, dated)).url))

    assert {(one.cost, one.model) for one in found.labelled} == {(None, "gpt-6-luna-2026-05")}
    assert found.unpriced == 4


def test_refusing_every_text_is_an_error(model_that, labels):
    model = model_that(lambda body, before: (400, error("no such thing")))

    with pytest.raises(RequestError, match=r"refuses every text.*no such thing"):
        labels.of(labeller(model.url))


def test_a_model_that_takes_no_temperature_is_asked_without(model_that, labels):
    def particular(body: dict, before: int) -> tuple[int, bytes]:
        unknown = {"temperature", "max_tokens"} & set(body)
        return (400, error(f"unsupported: {unknown}")) if unknown else said(body, before)

    model = model_that(particular)

    assert len(labels.of(labeller(model.url, concurrency=1)).labelled) == 4
    assert len(model.bodies) == 5


def test_a_model_that_thinks_first_gets_the_room_to(model_that, labels):
    def thinking(body: dict, before: int) -> tuple[int, bytes]:
        if "max_tokens" in body:
            return 200, chat("<think>The customer asks about", finish_reason="length")
        return 200, chat(f"<think>Not cancel_order.\ntrack_order? Yes.</think>\n\n**{SAID[text_of(body)]}**")

    model = model_that(thinking)

    assert [one.label for one in labels.of(labeller(model.url, concurrency=1)).labelled] == list(LABELS)
    assert len(model.bodies) == 5


def test_a_megabyte_is_cut_and_asked(model_that, labels):
    model = model_that(lambda body, before: (200, chat("no_signal")))

    assert len(labels.of(labeller(model.url), ["x" * 2**20]).labelled) == 1
    assert len(text_of(model.bodies[0])) == MOST_CHARACTERS


def test_an_answer_lost_on_its_way_is_given_again_by_the_gateway(gateway_with, model_that, labels):
    model = model_that(said)
    gateway = gateway_with(ENVIRON, **model.settings, cache=NO_CACHE)
    labels.of(labeller(gateway.url))
    labels.path.unlink()

    found = labels.of(labeller(gateway.url))

    assert [one.label for one in found.labelled] == list(LABELS)
    assert len(model.bodies) == 4


# Kept answers


def test_a_line_cut_short_by_a_kill_is_asked_for_again(recorded, labels):
    _, asked = recorded(SAID)
    before = labels.of(asked)
    labels.path.write_bytes(labels.path.read_bytes()[:-9])

    found = labels.of(asked)

    assert found.asked == 1
    assert [one.label for one in found.labelled] == [one.label for one in before.labelled]
    assert len(labels.lines) == 4


def test_a_line_that_is_no_answer_is_named(recorded, labels):
    _, asked = recorded(SAID)
    labels.of(asked)
    labels.path.write_bytes(labels.path.read_bytes() + b'{"digest": 3}\n')

    with pytest.raises(TrafficError, match="line 5"):
        labels.of(asked)


def test_a_file_that_cannot_be_opened_is_named(labels, tmp_path):
    asked = labeller("http://127.0.0.1:9")
    with pytest.raises(TrafficError, match="cannot be opened: Is a directory"):
        label_texts(TEXTS, LABELS, asked, "", tmp_path, labels.heard)
    labels.path.parent.mkdir()
    labels.path.symlink_to("/dev/full")
    with pytest.raises(TrafficError, match="no regular file"):
        labels.of(asked)


def test_a_disk_that_is_full_leaves_the_answers_before_as_they_were(labels):
    line = Kept(digest="0" * 32, vote=0, label="track_order")
    answers = KeptAnswers(labels.path)
    answers.add(line)
    size = labels.path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
    try:
        with pytest.raises(TrafficError, match="cannot be written"):
            answers.add(msgspec.structs.replace(line, vote=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    answers.close()

    assert labels.path.stat().st_size == size
    assert KeptAnswers(labels.path).of(line.digest, 0) == line


def test_two_at_once_do_not_share_a_file(model_that, labels):
    refused: list[TrafficError] = []

    def meanwhile(body: dict, before: int) -> tuple[int, bytes]:
        with pytest.raises(TrafficError, match="in use") as error:
            labels.of(labeller("http://127.0.0.1:9"))
        refused.append(error.value)
        return said(body, before)

    labels.of(labeller(model_that(meanwhile).url, concurrency=1), TEXTS[:1])

    assert refused


def test_killed_in_the_middle_it_goes_on_where_it_was(model_that, labels):
    texts = [f"{TEXTS[0]} Number {number}." for number in range(30)]

    def slow(body: dict, before: int) -> tuple[int, bytes]:
        time.sleep(0.05)
        return 200, chat("track_order")

    model = model_that(slow)
    code = (
        "from pathlib import Path\n"
        "from farthing.compress.job import Labeller\n"
        "from farthing.compress.labelling.labeller import label_texts\n"
        "from farthing.compress.progress import Silence\n"
        f"asked = Labeller(model={MODEL!r}, base_url='{model.url}/v1', concurrency=2)\n"
        f"label_texts({texts!r}, {LABELS!r}, asked, '', Path({str(labels.path)!r}), Silence())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": "src"})
    try:
        deadline = time.monotonic() + 60
        while len(model.bodies) < 10 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = len(labels.lines)

    found = labels.of(labeller(model.url), texts)

    assert 5 <= kept < 30
    assert found.asked == 30 - kept
    assert len(found.labelled) == 30


def test_an_interrupt_ends_it_at_once_and_keeps_what_was_answered(model_that, labels):
    def stuck(body: dict, before: int) -> tuple[int, bytes]:
        if text_of(body) == TEXTS[3]:
            time.sleep(5)
        return said(body, before)

    model = model_that(stuck)
    began = time.monotonic()

    async def interrupted() -> None:
        upstream = HttpUpstream(HttpSettings(name="model", provider="", base_url=f"{model.url}/v1"))
        asked = labeller(model.url, concurrency=1)
        task = asyncio.create_task(label_through(upstream, TEXTS, LABELS, asked, labels.path, labels.heard))
        while len(model.bodies) < 4:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await upstream.close()

    asyncio.run(interrupted())

    assert time.monotonic() - began < 4
    assert [line["label"] for line in labels.lines] == list(LABELS[:3])


# What is asked, and how answers are read


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("one",), "1 labels"),
        (("one", " "), "no label"),
        (("one", "two\nlines"), "no label"),
        (("one", "two", "one "), "2 times"),
    ],
)
def test_labels_that_cannot_be_asked_for_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Sought.of(wrong, labeller("http://x"))


@pytest.mark.parametrize("address", ["", "127.0.0.1:8787", "ftp://x/v1"])
def test_an_address_that_is_none_is_refused(address, labels):
    with pytest.raises(ConfigError, match="address"):
        labels.of(Labeller(model=MODEL, base_url=address))


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("track_order", "track_order"),
        (" Track Order.\n", "track_order"),
        ('"TRACK-ORDER"', "track_order"),
        ("**bill too high**", "Bill: too high"),
        ("Label: no_signal", "no_signal"),
        ("The label is: no_signal.", "no_signal"),
        ("no_signal\n\nThe customer has no bars.", "no_signal"),
        ("<think>cancel_order?</think>track_order", "track_order"),
        ("signal", ""),
        ("not track_order", ""),
        ("track_order or cancel_order", ""),
        ("", ""),
    ],
)
def test_an_answer_is_a_label_but_for_case_and_punctuation(answer, label):
    assert Sought.of(LABELS, labeller("http://x")).label(answer) == label


def test_labels_that_differ_by_punctuation_alone_are_told_apart():
    sought = Sought.of(("c", "c++", "c#"), labeller("http://x"))

    assert [sought.label(answer) for answer in ("c", "c++", "c#", "C")] == ["c", "c++", "c#", ""]


@given(st.text(), st.integers(0, 4))
def test_any_text_can_be_asked_about(text, vote):
    sought = Sought.of(LABELS, labeller("http://x", votes=5))

    body = json.loads(sought.body(text, vote, BRIEF))

    assert text_of(body) == text[:MOST_CHARACTERS]
    assert sorted(line[2:] for line in body["messages"][0]["content"].splitlines() if line.startswith("- ")) == sorted(
        LABELS
    )


def test_a_lone_surrogate_can_be_asked_about():
    sought = Sought.of(LABELS, labeller("http://x"))

    assert text_of(json.loads(sought.body("\ud800 alone", 0, BRIEF))) == "? alone"
    assert sought.digest("\ud800") != sought.digest("\ud801")


def test_a_hundred_and_fifty_labels_stand_in_one_question_whose_list_is_the_same_for_all_texts():
    many = tuple(f"label number {number}" for number in range(150))
    sought = Sought.of(many, labeller("http://x", votes=2))

    first, second = (json.loads(sought.body(text, 1, BRIEF))["messages"][0] for text in ("one", "two"))

    assert first == second
    assert all(f"- {label}\n" in first["content"] for label in many)
    assert json.loads(sought.body("one", 0, BRIEF))["messages"][0] != first
