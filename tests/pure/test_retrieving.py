"""Responses that can be asked for again: under which id, and what they say once they have ended."""

import json

import pytest

from farthing.dialects import read_retrieved, retrievable
from farthing.schema import Call, Usage

CREATED = (
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1","status":"in_progress"}}\n\n'
)


def call(body: bytes = b'{"model":"gpt-6-sol","input":"hi"}', endpoint: str = "responses") -> Call:
    return Call(endpoint, "gpt-6-sol", body, stream=True)


@pytest.mark.parametrize(
    ("asked", "answer", "found"),
    [
        (call(), CREATED, "resp_1"),
        (call(), b": hello\n\nevent: ping\ndata: {}\n\n" + CREATED.replace(b"\n", b"\r\n"), "resp_1"),
        (call(), b'{"id":"resp_2","object":"response","status":"in_progress"}', "resp_2"),
        (call(b'{"store":true}'), CREATED, "resp_1"),
        (call(b'{"store":false}'), CREATED, None),
        (call(endpoint="chat"), CREATED, None),
        (call(), CREATED[:40], None),
        (call(), b"", None),
        (call(), b'{"response": null, "id": 7}', None),
        (call(), CREATED.replace(b"resp_1", b"../files/x?a"), None),
        (call(), b"data: \xff\n\ndata: []\n\n", None),
    ],
)
def test_the_id_of_a_kept_response_is_read_off_what_came(asked, answer, found):
    assert retrievable(asked, answer) == found


def kept(status: str) -> bytes:
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    return json.dumps({"id": "resp_1", "model": "gpt-6-sol", "status": status, "output": [], "usage": usage}).encode()


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled"])
def test_a_kept_response_that_has_ended_says_what_it_used(status):
    reading = read_retrieved(call(), kept(status))
    assert (reading.usage, reading.usage_source, reading.model) == (Usage(input=10, output=5), "provider", "gpt-6-sol")


@pytest.mark.parametrize("body", [kept("queued"), kept("in_progress"), b"{}", b"", b"<html>", b'{"error":{}}', b"[]"])
def test_one_that_has_not_ended_says_nothing(body):
    assert read_retrieved(call(), body) is None
