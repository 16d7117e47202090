"""What may be shared: the key, who may share, which answers are kept."""

import json
from string import ascii_lowercase

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.caching import LEFT_OUT, body_digest, canonical_key, ineligible, may_keep, scope_of
from farthing.errors import RequestError
from farthing.schema import Call, Caller, Reply, SharingRules, Usage

RULES = SharingRules()
CALL = Call("chat", "m", b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}')
REPLY = Reply(200, b"{}", usage=Usage(input=1), usage_source="provider", finish="stop")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
bodies = st.dictionaries(st.text(ascii_lowercase, min_size=1), json_values, max_size=6)


def call_of(body: dict, **dumps: object) -> Call:
    return Call("chat", "m", json.dumps(body, **dumps).encode())


@given(bodies)
def test_spelling_makes_no_difference(body):
    shuffled = dict(reversed(body.items()))
    spaced = call_of(shuffled, indent=2, ensure_ascii=False)
    assert canonical_key("s", call_of(body)) == canonical_key("s", spaced)


@given(bodies, st.sampled_from(sorted(LEFT_OUT)), json_values)
def test_fields_left_out_make_no_difference(body, name, value):
    assert canonical_key("s", call_of(body)) == canonical_key("s", call_of({**body, name: value}))


@given(bodies, st.text(ascii_lowercase, min_size=1), json_values)
def test_every_other_field_makes_a_difference(body, name, value):
    changed = {**body, name: value}
    same = name in LEFT_OUT or (name in body and json.dumps(body[name]) == json.dumps(value))
    assert (canonical_key("s", call_of(body)) == canonical_key("s", call_of(changed))) == same


@given(bodies, st.text(), st.text())
def test_scopes_never_share(body, one, other):
    call = call_of(body)
    assert (canonical_key(one, call) == canonical_key(other, call)) == (one == other)


@given(st.text(ascii_lowercase), st.binary(), st.text(ascii_lowercase), st.binary())
def test_digests_tell_requests_apart(path, body, other_path, other_body):
    same = (path, body) == (other_path, other_body)
    assert (body_digest(path, body) == body_digest(other_path, other_body)) == same


def test_the_endpoint_and_the_query_are_in_the_key():
    keys = {
        canonical_key("", msgspec.structs.replace(CALL, endpoint=endpoint, path=path))
        for endpoint in ("chat", "responses")
        for path in ("/v1/x", "/v1/x?beta=true")
    }
    assert len(keys) == 4


def test_the_list_of_fields_left_out_is_short_and_known():
    assert sorted(LEFT_OUT) == [
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "stream",
        "stream_options",
        "user",
    ]


def test_a_depth_bomb_is_refused():
    with pytest.raises(RequestError, match="readable"):
        canonical_key("", Call("chat", "m", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"temperature": 0.0}, ""),
        ({"temperature": 0.7}, "temperature"),
        ({"has_tools": True}, "tools"),
        ({"stateful": True}, "stateful"),
        ({"endpoint": "count_tokens"}, "endpoint"),
    ],
)
def test_who_may_share(changes, why):
    assert ineligible(RULES, msgspec.structs.replace(CALL, **changes), route_cache=None) == why


def test_a_route_opts_in_or_out():
    off = SharingRules(enabled=False)
    assert ineligible(RULES, CALL, route_cache=False) == "policy"
    assert ineligible(off, CALL, route_cache=None) == "policy"
    assert ineligible(off, CALL, route_cache=True) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"status": 500},
        {"ending": "reset"},
        {"error": "overloaded"},
        {"finish": "length"},
        {"finish": None},
        {"finish": "content_filter"},
        {"finish": "tool_calls"},
        {"usage": None},
        {"usage_source": "estimated"},
        {"body": b""},
    ],
)
def test_partial_failed_and_unmetered_answers_are_not_kept(changes):
    assert may_keep(RULES, CALL, REPLY)
    assert not may_keep(RULES, CALL, msgspec.structs.replace(REPLY, **changes))


def test_policy_may_keep_truncated_answers_and_tool_calls():
    assert may_keep(SharingRules(truncated=True), CALL, msgspec.structs.replace(REPLY, finish="max_tokens"))
    assert may_keep(SharingRules(tools=True), CALL, msgspec.structs.replace(REPLY, finish="tool_use"))


def test_a_tenant_is_believed_only_when_a_key_vouches_for_it():
    one, other = Caller(tenant="acme", key="a"), Caller(tenant="acme", key="b")
    assert scope_of(RULES, one, authenticated=True) == scope_of(RULES, other, authenticated=True)
    assert scope_of(RULES, one, authenticated=False) != scope_of(RULES, other, authenticated=False)
    by_key = SharingRules(scope="key")
    assert scope_of(by_key, one, authenticated=True) != scope_of(by_key, other, authenticated=True)
    everyone = SharingRules(scope="all")
    assert scope_of(everyone, one, authenticated=True) == scope_of(everyone, Caller(), authenticated=False)
