"""Keys: what one may do is part of what its parent may, ends when its parent does, and nobody gets in by an outage."""

import logging
import re
from fnmatch import translate

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farthing.errors import Forbidden, RequestError, StoreError, Unauthorized
from farthing.gateway.issuing import Issuer, Wish, states
from farthing.gateway.keyring import Keyring, digest_of
from farthing.gateway.scopes import excess, matches, scope_of
from farthing.schema import Call, GatewayKey

PEPPER = b"p" * 32
NOW = 1_795_000_000 * 10**9
HOUR = 3600 * 10**9


class StoppedClock:
    def __init__(self, at: int = NOW) -> None:
        self.at = at

    def now(self) -> int:
        return self.at


class Keys:
    """A key store in memory, which can be told to fail."""

    def __init__(self) -> None:
        self.kept: dict[str, GatewayKey] = {}
        self.number = 0
        self.down = False

    def _ask(self) -> None:
        if self.down:
            raise StoreError("the disk is gone")

    def revision(self) -> int:
        self._ask()
        return self.number

    def keys(self) -> list[GatewayKey]:
        self._ask()
        return list(self.kept.values())

    def add(self, key: GatewayKey) -> None:
        self._ask()
        if key.name in self.kept:
            raise RequestError(f'There is a key "{key.name}" already.')
        self.kept[key.name] = key
        self.number += 1

    def change(self, key: GatewayKey) -> None:
        self._ask()
        self.kept[key.name] = key
        self.number += 1

    def close(self) -> None:
        pass


class Bench:
    """A store, its issuer and its keyring, at one clock."""

    def __init__(self, configured: dict[str, str] | None = None, **more: object) -> None:
        self.clock, self.store = StoppedClock(), Keys()
        names = configured or {}
        self.configured = [
            GatewayKey(name, digest_of(PEPPER, secret.encode()), **more) for name, secret in names.items()
        ]
        self.issuer = Issuer(self.store, PEPPER, names)
        self.ring = Keyring(self.configured, PEPPER, self.store, self.clock)

    def make(self, name: str, **wanted: object) -> bytes:
        _, secret = self.issuer.make(Wish(name, **wanted), self.clock.at)
        self.ring.refresh()
        return secret.encode()

    def revoke(self, name: str) -> None:
        self.issuer.revoke(name, self.clock.at)
        self.ring.refresh()

    def rotate(self, name: str, grace: int = 0) -> bytes:
        _, secret = self.issuer.rotate(name, self.clock.at, grace)
        self.ring.refresh()
        return secret.encode()

    def refuses(self, credential: bytes) -> str:
        with pytest.raises(Unauthorized) as caught:
            self.ring.identify(credential)
        return caught.value.message


# Patterns

PATTERNS = st.text("ab*", max_size=6)
NAMES = st.text("ab*", max_size=6)


@given(PATTERNS, NAMES)
def test_a_pattern_matches_what_a_regular_expression_does(pattern, name):
    assert matches(pattern, name) is bool(re.fullmatch(translate(pattern), name))


@given(PATTERNS, PATTERNS, NAMES)
def test_a_pattern_that_matches_anothers_text_matches_all_that_the_other_does(wider, pattern, name):
    if matches(wider, pattern) and matches(pattern, name):
        assert matches(wider, name)


@given(PATTERNS, PATTERNS)
def test_a_pattern_that_does_not_match_anothers_text_lets_some_name_out(wider, pattern):
    if not matches(wider, pattern):
        assert not matches(wider, pattern.replace("*", "z"))


def test_a_pattern_of_many_stars_takes_no_longer_than_any():
    assert not matches("*a" * 100 + "b", "a" * 10_000)


# Scopes

NAMED = st.sampled_from(["gpt-6", "gpt-6-mini", "o9", "claude-5", "chat", "messages", ""])
GLOBS = st.lists(st.sampled_from(["*", "gpt-*", "gpt-6", "*-mini", "o9", "c*", "*a*"]), max_size=3).map(tuple)
SCOPED = st.builds(
    GatewayKey, name=st.just("k"), digest=st.just(""), tenant=st.sampled_from(["", "acme", "globex"]),
    team=st.sampled_from(["", "search"]), models=GLOBS, endpoints=GLOBS, expires=st.none() | st.integers(1, 5),
)  # fmt: skip


@given(SCOPED, SCOPED, NAMED, NAMED)
@hypothesis_settings(max_examples=400)
def test_a_child_that_may_be_made_may_do_no_more_than_its_parent(child, parent, endpoint, model):
    if not excess(child, parent):
        assert not scope_of("c", [child]).allows(endpoint, model) or scope_of("p", [parent]).allows(endpoint, model)
        assert parent.tenant in ("", child.tenant)
        assert parent.team in ("", child.team)
        assert parent.expires is None or (child.expires is not None and child.expires <= parent.expires)


@given(SCOPED)
def test_a_key_does_not_exceed_itself(key):
    assert excess(key, key) == []


@given(st.lists(SCOPED, min_size=1, max_size=4), NAMED, NAMED)
def test_whatever_was_written_down_a_key_may_do_what_every_key_above_it_may(line, endpoint, model):
    alone = [scope_of("k", [key]).allows(endpoint, model) for key in line]
    assert scope_of("k", line).allows(endpoint, model) is all(alone)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (Call("chat", "o9", b""), 'The key "app" may not use the model "o9"; it may use gpt-*, c5.'),
        (
            Call("embeddings", "gpt-6", b""),
            'The key "app" may not use the endpoint embeddings; it may use chat, models.',
        ),
    ],
)
def test_a_refusal_says_who_what_and_what_instead(call, message):
    scope = scope_of("app", [GatewayKey("app", "", models=("gpt-*", "c5"), endpoints=("chat", "models"))])
    with pytest.raises(Forbidden) as caught:
        scope.check(call)
    assert caught.value.message == message
    scope.check(Call("chat", "gpt-6", b""))
    scope.check(Call("models", "", b""))


# Making keys


def test_a_key_is_256_bits_and_nothing_that_is_kept_tells_it():
    bench = Bench()
    secret = bench.make("app", tenant="acme")
    assert re.fullmatch(rb"fk-[A-Za-z0-9_-]{43}", secret)
    assert secret not in msgspec.json.encode(bench.store.kept)
    assert bench.store.kept["app"].ending == secret[-4:].decode()
    assert bench.ring.identify(secret).caller.key == "app"
    assert Keyring([], b"another pepper", bench.store, bench.clock).authenticates
    with pytest.raises(Unauthorized):
        Keyring([], b"another pepper", bench.store, bench.clock).identify(secret)


def test_a_child_inherits_what_it_does_not_name_and_may_not_exceed_the_rest():
    bench = Bench()
    bench.make("top", tenant="acme", models=("gpt-*",), endpoints=("chat", "models"), expires=NOW + HOUR)
    bench.make("under", parent="top", models=("gpt-6",))
    under = bench.store.kept["under"]
    assert (under.tenant, under.models, under.endpoints, under.expires) == (
        "acme", ("gpt-6",), ("chat", "models"), NOW + HOUR,
    )  # fmt: skip
    for more, said in (
        ({"models": ("*",)}, 'the model "*" (it may use gpt-*)'),
        ({"endpoints": ("messages",)}, 'the endpoint "messages"'),
        ({"tenant": "globex"}, 'the tenant "globex"'),
        ({"expires": NOW + 2 * HOUR}, "a later end"),
    ):
        with pytest.raises(Forbidden) as caught:
            bench.make("more", parent="top", **more)
        assert said in caught.value.message
    assert "more" not in bench.store.kept


@pytest.mark.parametrize("name", ["", "a b", "app~1", "~", "a/b", "x" * 65, "-a", "ä"])
def test_a_name_is_plain(name):
    with pytest.raises(RequestError, match="cannot be called"):
        Bench().make(name)


def test_names_stand_for_one_key_for_good():
    bench = Bench({"fixed": "secret-1"})
    bench.make("app")
    bench.revoke("app")
    for name, said in (("app", "already"), ("fixed", "in the configuration has that name")):
        with pytest.raises(RequestError, match=said):
            bench.make(name)
    for verb in (bench.revoke, bench.rotate):
        with pytest.raises(RequestError, match="stands in the configuration"):
            verb("fixed")
        with pytest.raises(RequestError, match='no key "ap"') as caught:
            verb("ap")
        assert caught.value.hint == 'Did you mean "app"?'


def test_a_key_that_is_not_in_force_has_no_children_and_is_not_rotated():
    bench = Bench()
    bench.make("app", expires=NOW + HOUR)
    bench.make("gone")
    bench.revoke("gone")
    bench.clock.at += HOUR
    for name, said in (("app", "has expired"), ("gone", "has been revoked")):
        with pytest.raises(RequestError, match=said):
            bench.rotate(name)
        with pytest.raises(RequestError, match=said):
            bench.make("child", parent=name)


# Who it is


def test_without_keys_everyone_is_known_by_the_credential_brought_for_the_provider():
    bench = Bench()
    assert not bench.ring.authenticates
    one, other = (bench.ring.identify(credential).caller.key for credential in (b"sk-1", b"sk-2"))
    assert one.startswith("own-")
    assert one != other
    assert bench.ring.identify(b"").caller.key == ""
    bench.ring.scope_of(one).check(Call("chat", "any", b""))


def test_the_first_key_closes_the_gateway_and_its_revocation_does_not_open_it():
    bench = Bench()
    before = bench.ring.revision
    secret = bench.make("app", team="search")
    assert bench.ring.authenticates
    assert bench.ring.revision != before
    assert bench.ring.identify(secret).caller.team == "search"
    assert "carried none" in bench.refuses(b"")
    assert "not one of this gateway's keys" in bench.refuses(b"sk-x")
    bench.revoke("app")
    assert bench.refuses(secret) == 'The key "app" has been revoked.'
    assert bench.ring.authenticates


def test_a_store_that_is_found_empty_does_not_open_the_gateway():
    bench = Bench()
    secret = bench.make("app")
    bench.store.kept.clear()
    bench.store.number = 0
    bench.ring.refresh()
    bench.refuses(secret)
    bench.refuses(b"")
    bench.store.number = 7  # found so by a gateway that starts
    assert Keyring([], PEPPER, bench.store, bench.clock).authenticates


def test_a_gateway_beyond_its_machine_needs_keys_before_there_are_any():
    ring = Keyring([], PEPPER, Keys(), StoppedClock(), required=True)
    assert ring.authenticates
    with pytest.raises(Unauthorized):
        ring.identify(b"sk-own")


def test_a_key_ends_at_its_instant_and_so_does_what_is_remembered_of_it():
    bench = Bench()
    secret = bench.make("app", expires=NOW + HOUR)
    standing, revision = bench.ring.identify(secret), bench.ring.revision
    bench.clock.at = NOW + HOUR - 1
    assert bench.ring.holds(standing, revision)
    bench.ring.scope_of("app")
    bench.clock.at = NOW + HOUR
    assert not bench.ring.holds(standing, revision)
    assert bench.refuses(secret) == 'The key "app" has expired.'
    with pytest.raises(Unauthorized):
        bench.ring.scope_of("app")


def test_what_ends_a_parent_ends_all_under_it():
    for end in ("revoked", "expired", "lost"):
        bench = Bench()
        bench.make("top", expires=NOW + HOUR)
        bench.make("middle", parent="top")
        secret = bench.make("low", parent="middle")
        standing, revision = bench.ring.identify(secret), bench.ring.revision
        if end == "revoked":
            bench.revoke("top")
        elif end == "expired":
            bench.clock.at += HOUR
        else:
            del bench.store.kept["top"]
            bench.store.number += 1
            bench.ring.refresh()
        assert not bench.ring.holds(standing, revision)
        assert '"low"' in bench.refuses(secret)
        assert states(bench.store.keys(), bench.clock.at)["low"] != ""


def test_keys_that_are_each_others_parents_stand_for_nobody():
    bench = Bench()
    secret = bench.make("a")
    bench.make("b", parent="a")
    bench.store.change(msgspec.structs.replace(bench.store.kept["a"], parent="b"))
    bench.ring.refresh()
    bench.refuses(secret)


def test_enforcement_does_not_trust_what_was_written_down():
    bench = Bench()
    bench.make("top", tenant="acme", models=("gpt-*",))
    secret = bench.make("low", parent="top")
    low = msgspec.structs.replace(bench.store.kept["low"], tenant="globex", models=("*",))
    bench.store.change(low)
    bench.ring.refresh()
    assert bench.ring.identify(secret).caller.tenant == "acme"
    with pytest.raises(Forbidden, match="it may use gpt-"):
        bench.ring.scope_of("low").check(Call("chat", "o9", b""))


def test_a_rotated_key_works_with_both_values_for_its_grace_and_is_one_key():
    bench = Bench()
    old = bench.make("app", tenant="acme", models=("gpt-*",))
    new = bench.rotate("app", HOUR)
    newest = bench.rotate("app", 2 * HOUR)
    for secret in (old, new, newest):
        assert bench.ring.identify(secret).caller == bench.ring.identify(newest).caller
    assert sorted(bench.store.kept) == ["app", "app~1", "app~2"]
    with pytest.raises(Forbidden):
        bench.ring.scope_of("app").check(Call("chat", "o9", b""))
    bench.clock.at += HOUR
    assert "rotated" in bench.refuses(old)
    bench.ring.identify(new)
    bench.revoke("app")
    for secret in (new, newest):
        bench.refuses(secret)


def test_a_rotation_without_grace_ends_the_old_value_at_once_and_grace_lengthens_no_life():
    bench = Bench()
    old = bench.make("app", expires=NOW + HOUR)
    new = bench.rotate("app")
    bench.refuses(old)
    bench.rotate("app", 2 * HOUR)
    bench.clock.at += HOUR
    bench.refuses(new)


def test_a_rotation_cut_off_half_way_changes_nothing_for_its_caller():
    bench = Bench()
    secret = bench.make("app")
    bench.store.add(msgspec.structs.replace(bench.store.kept["app"], name="app~1", parent="app", expires=NOW + HOUR))
    bench.ring.refresh()
    bench.clock.at += 2 * HOUR
    assert bench.ring.identify(secret).caller.key == "app"


def test_a_key_of_the_configuration_is_in_force_instead_of_a_stored_one_of_its_name():
    bench = Bench({"app": "configured"}, models=("gpt-*",))
    _, secret = Issuer(bench.store, PEPPER).make(Wish("app"), NOW)
    bench.ring.refresh()
    assert bench.ring.identify(b"configured").caller.key == "app"
    assert "name of a key in the gateway's configuration" in bench.refuses(secret.encode())
    with pytest.raises(Forbidden):
        bench.ring.scope_of("app").check(Call("chat", "o9", b""))


# A store that does not answer


def test_while_the_store_is_down_known_keys_go_on_and_others_cannot_be_told(caplog):
    bench = Bench({"fixed": "configured"})
    secret = bench.make("app", expires=NOW + HOUR)
    bench.store.down = True
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            bench.ring.refresh()
        assert bench.ring.identify(secret).caller.key == "app"
        assert bench.ring.identify(b"configured").caller.key == "fixed"
        with pytest.raises(StoreError) as caught:
            bench.ring.identify(b"fk-made-meanwhile")
        assert (caught.value.status, caught.value.retry_after) == (503, 1.0)
        assert "disk" not in str(caught.value)
        bench.clock.at += HOUR
        bench.refuses(secret)
        bench.store.down = False
        for _ in range(5):
            bench.ring.refresh()
    bench.refuses(b"fk-made-meanwhile")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_gateway_that_starts_while_the_store_is_down_lets_nobody_in():
    store = Keys()
    store.down = True
    ring = Keyring([], PEPPER, store, StoppedClock())
    for credential in (b"", b"sk-own", b"fk-x"):
        with pytest.raises(StoreError):
            ring.identify(credential)
    store.down = False
    ring.refresh()
    assert not ring.authenticates
