"""Every key store: keeps each key whole, counts every change, and is the same for all who are given it."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farthing.errors import ConfigError, RequestError, StoreError
from farthing.ports import KeyStore
from farthing.schema import GatewayKey
from farthing.stores.pepper import kept_pepper
from farthing.stores.sqlite_keys import SqliteKeys

Open = Callable[[], KeyStore]

KEY = GatewayKey("app", "ab" * 32, "wxyz", "acme", "search", ("gpt-*",), ("chat",), "parent", 5, 7)
INSTANTS = st.none() | st.integers(0, 2**63 - 1)
TEXTS = st.text(max_size=12)
KEYS = st.builds(
    GatewayKey, name=st.text(min_size=1, max_size=12), digest=TEXTS, ending=TEXTS, tenant=TEXTS, team=TEXTS,
    models=st.lists(TEXTS, max_size=3).map(tuple), endpoints=st.lists(TEXTS, max_size=3).map(tuple), parent=TEXTS,
    created=st.integers(0, 2**63 - 1), expires=INSTANTS, revoked=INSTANTS,
)  # fmt: skip


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same store again and again, as the processes that share it do."""
    if request.param == "postgres":
        dsn = request.getfixturevalue("postgres_dsn")
        from farthing.stores.postgres_keys import PostgresKeys

        return lambda: PostgresKeys(dsn)
    return lambda: SqliteKeys(tmp_path / "new dir" / "keys.sqlite")


def names(store: KeyStore) -> list[str]:
    return [key.name for key in store.keys()]  # noqa: SIM118 (it is a store, no mapping)


def test_a_store_begins_empty_and_looking_changes_nothing(opened):
    for _ in range(2):
        store = opened()
        assert (store.revision(), store.keys()) == (0, [])


def test_a_key_comes_back_whole_and_in_order_for_everyone(opened):
    store = opened()
    for name in ("b", "a", "c"):
        store.add(msgspec.structs.replace(KEY, name=name))
    assert opened().keys() == store.keys()
    assert names(store) == ["b", "a", "c"]
    assert msgspec.structs.replace(store.keys()[0], name="app") == KEY


def test_a_changed_key_keeps_its_place(opened):
    store = opened()
    for name in ("b", "a"):
        store.add(msgspec.structs.replace(KEY, name=name))
    revoked = msgspec.structs.replace(KEY, name="b", revoked=9)
    opened().change(revoked)
    assert store.keys() == [revoked, msgspec.structs.replace(KEY, name="a")]


def test_every_change_and_nothing_else_makes_the_revision_grow(opened):
    store, other = opened(), opened()
    seen = [store.revision()]
    store.add(KEY)
    seen.append(other.revision())
    other.change(msgspec.structs.replace(KEY, revoked=9))
    seen.append(store.revision())
    assert seen == sorted(set(seen))
    with pytest.raises(RequestError, match='"app" already'):
        other.add(KEY)
    with pytest.raises(RequestError, match='no key "nope"'):
        store.change(msgspec.structs.replace(KEY, name="nope"))
    store.keys()
    assert store.revision() == other.revision() == seen[-1]


@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=KEYS)
def test_any_key_comes_back_as_it_was(opened, key):
    store = opened()
    if key.name in names(store):
        store.change(key)
    else:
        store.add(key)
    assert opened().keys().count(key) == 1


def test_what_many_add_at_once_is_all_there_once(opened):
    refused = []

    def add(number: int) -> None:
        store = opened()
        for index in range(5):
            store.add(msgspec.structs.replace(KEY, name=f"{number}-{index}"))
        try:
            store.add(msgspec.structs.replace(KEY, name="wanted by all"))
        except RequestError:
            refused.append(number)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = opened()
    assert len(names(store)) == len(set(names(store))) == 21
    assert len(refused) == 3
    assert store.revision() >= 21


# SQLite: the file


@pytest.fixture
def file(tmp_path) -> Path:
    SqliteKeys(tmp_path / "keys.sqlite").add(KEY)
    return tmp_path / "keys.sqlite"


def damaged(file: Path) -> None:
    file.write_bytes(b"not a database" * 100)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def of_a_later_format(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version = 99")


def in_the_way(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("fault", [damaged, emptied, of_a_later_format, in_the_way])
def test_a_file_that_is_no_key_store_is_an_error_and_not_a_store_without_keys(file, fault):
    fault(file)
    store = SqliteKeys(file)
    for question in (store.revision, store.keys):
        with pytest.raises(StoreError, match=r"keys\.sqlite"):
            question()
    if fault is not emptied:
        with pytest.raises(StoreError):
            store.add(KEY)


def test_a_locked_file_is_an_error_after_a_second_and_serves_again_afterwards(file):
    store = SqliteKeys(file)
    with sqlite3.connect(file, isolation_level=None) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked"):
            store.add(msgspec.structs.replace(KEY, name="b"))
        holder.execute("ROLLBACK")
    store.add(msgspec.structs.replace(KEY, name="b"))
    assert len(store.keys()) == 2


def test_the_file_is_its_owners_only_and_may_be_swapped_for_another(file, tmp_path):
    assert file.stat().st_mode & 0o777 == 0o600
    store = SqliteKeys(file)
    backup = tmp_path / "backup"
    backup.write_bytes(file.read_bytes())
    store.add(msgspec.structs.replace(KEY, name="later"))
    backup.rename(file)
    assert store.keys() == [KEY]


# The pepper


def test_the_pepper_is_made_once_for_its_owner_only_however_many_ask(tmp_path):
    path = tmp_path / "new dir" / "pepper"
    seen: list[bytes] = []
    threads = [threading.Thread(target=lambda: seen.append(kept_pepper(path))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 16
    assert len(set(seen)) == 1
    assert len(seen[0]) == 32
    assert kept_pepper(path) == seen[0]
    assert [file.name for file in path.parent.iterdir()] == ["pepper"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"ab", b"no hexadecimal" * 8, b"\xff" * 64])
def test_a_pepper_that_was_cut_or_overwritten_is_refused(tmp_path, content):
    (tmp_path / "pepper").write_bytes(content)
    with pytest.raises(ConfigError, match="pepper"):
        kept_pepper(tmp_path / "pepper")
