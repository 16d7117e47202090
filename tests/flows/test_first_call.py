"""A call arrives, is answered, metered and entered; an identical one costs nothing."""

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}]}


def test_a_call_is_answered_metered_and_entered(gateway):
    answer = gateway.post("/v1/chat/completions", CHAT, {"x-farthing-feature": "greeting"})

    assert answer.status == 200
    usage = answer.json["usage"]
    (entry,) = gateway.entries()
    assert entry.usage.input_tokens == usage["prompt_tokens"]
    assert entry.usage.output_tokens == usage["completion_tokens"]
    assert entry.usage_source == "provider"
    assert entry.cost == entry.usage.input * 100_000 + entry.usage.output_tokens * 500_000  # $0.10 and $0.50 a million
    assert entry.list_cost == entry.cost
    assert entry.cache == "miss"
    assert entry.feature == "greeting"
    assert entry.simulated
    assert answer.headers["x-farthing-call"] == entry.group


def test_an_identical_call_costs_nothing_and_says_what_it_saved(gateway):
    first = gateway.post("/v1/chat/completions", CHAT)
    second = gateway.post("/v1/chat/completions", dict(reversed(CHAT.items())))

    assert second.json == first.json
    assert (first.headers["x-farthing-cache"], second.headers["x-farthing-cache"]) == ("miss", "hit")
    assert second.headers["x-farthing-cost"] == "0"
    bought, given = gateway.entries()
    assert given.cost == 0
    assert given.list_cost == bought.cost
    assert dict(given.saved) == {"exact_cache": bought.cost}
    assert given.attempt == 0


def test_a_streamed_call_is_metered_like_a_plain_one(gateway):
    plain = gateway.post("/v1/chat/completions", {**CHAT, "temperature": 1})
    streamed = gateway.post("/v1/chat/completions", {**CHAT, "temperature": 1, "stream": True})

    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert streamed.body.endswith(b"data: [DONE]\n\n")
    assert b'"usage":{' not in streamed.body  # we asked the provider for it; the caller did not ask us
    first, second = gateway.entries()
    assert first.usage == second.usage
    assert first.cost == second.cost == plain_cost(plain)


def plain_cost(answer) -> int:
    usage = answer.json["usage"]
    return usage["prompt_tokens"] * 100_000 + usage["completion_tokens"] * 500_000


def test_a_kept_answer_is_given_as_a_stream_or_plain_as_asked(gateway):
    plain = gateway.post("/v1/chat/completions", CHAT)
    streamed = gateway.post("/v1/chat/completions", {**CHAT, "stream": True})

    assert streamed.headers["x-farthing-cache"] == "hit"
    text = plain.json["choices"][0]["message"]["content"]
    import json

    frames = [line[6:] for line in streamed.body.decode().splitlines() if line.startswith("data: {")]
    deltas = [json.loads(frame)["choices"] for frame in frames]
    assert "".join(c[0]["delta"].get("content") or "" for c in deltas if c) == text
