"""farthing key: what it makes works at a gateway, is shown once, and says what is wrong."""

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from farthing.cli.verbs import root
from farthing.config import KeyStore, Ledger
from farthing.errors import Forbidden, RequestError, StoreError

CHAT = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say hello."}]}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """Where the ledger is; every verb is run there without a configuration file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FARTHING__LEDGER__PATH", str(tmp_path / "ledger"))
    return tmp_path / "ledger"


def key(*words: str) -> Result:
    return CliRunner().invoke(root, ["key", *words])


def document(*words: str) -> dict:
    result = key(*words, "--json")
    assert result.exception is None, result.exception
    return json.loads(result.stdout)


def refusal(kind: type[Exception], *words: str) -> str:
    result = key(*words)
    assert isinstance(result.exception, kind)
    return str(result.exception)


def test_new_prints_the_key_alone_so_that_a_script_can_take_it():
    made = key("new", "app")
    assert made.stdout.startswith("fk-")
    assert len(made.stdout.split()) == 1
    assert "shown this once" in made.stderr
    assert made.stdout.strip() not in made.stderr


def test_what_new_makes_works_at_a_gateway_and_is_kept_nowhere(place, gateway_with):
    made = document("new", "app", "--tenant", "acme", "--team", "search", "--model", "gpt-*", "--endpoint", "chat")
    assert made["schema"] == "farthing.key.new/1"
    gateway = gateway_with(ledger=Ledger(path=str(place)))
    answer = gateway.post("/v1/chat/completions", CHAT, {"authorization": f"Bearer {made['secret']}"})
    assert answer.status == 200
    (entry,) = gateway.entries()
    assert (entry.key, entry.tenant, entry.team) == ("app", "acme", "search")
    for file in place.rglob("*"):
        if file.is_file():
            assert made["secret"].encode() not in file.read_bytes()
    for name in ("keys.sqlite", "pepper"):
        assert stat.S_IMODE((place / name).stat().st_mode) == 0o600


def test_list_shows_every_key_and_what_became_of_it():
    secret = document("new", "top", "--expires", "30d")["secret"]
    document("new", "low", "--parent", "top", "--model", "gpt-6")
    document("revoke", "top")
    lines = {line["name"]: line for line in document("list")["keys"]}
    assert lines["top"]["state"] == "has been revoked"
    assert lines["low"]["state"] == 'is under the key "top", which has been revoked'
    assert lines["low"]["models"] == ["gpt-6"]
    assert lines["low"]["expires"] == lines["top"]["expires"]
    assert lines["top"]["ending"] == secret[-4:]
    shown = key("list").stdout
    assert "2 keys" in shown
    assert secret not in shown


def test_list_without_keys_makes_no_files(place):
    assert "no keys" in key("list").stdout
    assert document("list")["keys"] == []
    assert not place.exists()


def test_revoke_says_what_ended_with_it_and_may_be_repeated():
    for words in (["a"], ["b", "--parent", "a"], ["c", "--parent", "b"], ["d"]):
        key("new", *words)
    assert key("revoke", "a").stdout == "the key a has been revoked, and with it b, c\n"
    first = document("revoke", "a")
    assert first["ended"] == []
    assert first == document("revoke", "a")


def test_rotate_gives_another_value_and_the_old_one_its_grace():
    old = document("new", "app", "--tenant", "acme")["secret"]
    rotated = document("rotate", "app", "--grace", "24h")
    assert rotated["schema"] == "farthing.key.rotate/1"
    assert rotated["secret"] != old
    lines = {line["name"]: line for line in document("list")["keys"]}
    assert (lines["app~1"]["ending"], lines["app~1"]["parent"]) == (old[-4:], "app")
    assert lines["app"]["expires"] is None
    assert lines["app~1"]["expires"] is not None
    document("rotate", "app")
    assert "app~2" not in {line["name"] for line in document("list")["keys"]}


def test_what_cannot_be_done_is_said_with_advice(place):
    key("new", "app", "--model", "gpt-*")
    assert "already" in refusal(RequestError, "new", "app")
    assert "may do no more than its parent" in refusal(Forbidden, "new", "b", "--parent", "app", "--model", "*")
    assert 'no endpoint "chats"' in refusal(RequestError, "new", "b", "--endpoint", "chats")
    assert 'Did you mean "app"?' in refusal(RequestError, "revoke", "ap")
    assert key("new", "b", "--expires", "soon").exit_code == 2
    (place / "keys.sqlite").write_bytes(b"damaged" * 1000)
    assert "keys.sqlite" in refusal(StoreError, "list")


def test_a_key_of_the_configuration_keeps_its_name(monkeypatch):
    monkeypatch.setenv("FARTHING__KEYS__APP__SECRET", "env:APP")
    assert "[keys.app] in the configuration has that name" in refusal(RequestError, "new", "app")
    assert "stands in the configuration" in refusal(RequestError, "revoke", "app")


def test_the_pepper_may_come_from_the_configuration(place, monkeypatch, gateway_with):
    monkeypatch.setenv("FARTHING__KEY_STORE__PEPPER", "env:PEPPER")
    monkeypatch.setenv("PEPPER", "a-pepper-of-our-own")
    secret = document("new", "app")["secret"]
    assert not (place / "pepper").exists()
    settings = {"ledger": Ledger(path=str(place)), "key_store": KeyStore(pepper="env:PEPPER")}
    gateway = gateway_with({"PEPPER": "a-pepper-of-our-own"}, **settings)
    assert gateway.post("/v1/chat/completions", CHAT, {"authorization": f"Bearer {secret}"}).status == 200
