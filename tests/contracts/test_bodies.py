"""Bodies: kept whole, apart from the ledger, for as long as wanted, and never in the way of a call."""

import sqlite3
from pathlib import Path

import pytest

from farthing.errors import LedgerError
from farthing.stores import bodies
from farthing.stores.bodies import Bodies, Body
from farthing.stores.retention import DAY, Retention


class FixedClock:
    def __init__(self, at: int) -> None:
        self.at = at

    def now(self) -> int:
        return self.at


def opened(path: Path, now: int = 0) -> Bodies:
    return Bodies(path / "bodies.sqlite", Retention(7, FixedClock(now)))


BODY = Body(at=1, request=b'{"messages":[]}', reply=b"\x00\xff data: [DONE]\n\n" * 99)


def test_a_body_comes_back_before_and_after_it_is_written_and_after_a_restart(tmp_path):
    kept = opened(tmp_path)
    kept.put("g1", BODY)
    assert kept.get("g1") == BODY
    assert kept.flush(10)
    assert kept.get("g1") == BODY
    assert kept.get("g2") is None
    kept.close()
    again = opened(tmp_path)
    assert again.get("g1") == BODY
    again.close()


def test_closing_writes_what_waits(tmp_path):
    kept = opened(tmp_path)
    for number in range(1200):
        kept.put(f"g{number}", BODY)
    kept.close()
    again = opened(tmp_path)
    assert all(again.get(f"g{number}") == BODY for number in range(0, 1200, 97))
    again.close()


def test_bodies_past_their_retention_are_forgotten(tmp_path):
    kept = opened(tmp_path)
    for day in range(10):
        kept.put(f"g{day}", Body(day * DAY, b"q", b"a"))
    kept.close()
    again = opened(tmp_path, now=9 * DAY)
    again.put("new", Body(9 * DAY, b"q", b"a"))
    again.close()
    with sqlite3.connect(tmp_path / "bodies.sqlite") as db:
        assert sorted(row[0] for row in db.execute("SELECT grp FROM bodies")) == [
            *(f"g{n}" for n in range(2, 10)),
            "new",
        ]


def test_pruning_says_how_many_went(tmp_path):
    kept = opened(tmp_path)
    for number in range(1200):
        kept.put(f"g{number}", Body(number, b"q", b"a"))
    assert kept.flush(10)
    assert kept.prune(1100) == 1100
    assert kept.get("g1099") is None
    assert kept.get("g1100") is not None
    kept.close()


def test_what_does_not_fit_in_memory_is_dropped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(bodies, "WAITING", 3000)
    kept = opened(tmp_path)
    kept.put("small", Body(1, b"q" * 1000, b"a" * 1000))
    kept.put("large", Body(1, b"q" * 2000, b"a" * 2000))
    assert kept.dropped == 1
    assert kept.get("small") is not None
    assert kept.get("large") is None
    kept.close()


def test_a_file_that_cannot_be_used_is_refused_at_the_start(tmp_path):
    (tmp_path / "bodies.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(LedgerError, match=r"cannot be kept: .* ledger.bodies"):
        opened(tmp_path)


def test_a_file_that_fails_later_costs_bodies_and_is_told_once(tmp_path, caplog):
    kept = opened(tmp_path)
    with sqlite3.connect(tmp_path / "bodies.sqlite") as db:
        db.execute("DROP TABLE bodies")
    for number in range(3):
        kept.put(f"g{number}", BODY)
        assert kept.flush(10)
    with pytest.raises(LedgerError, match="no such table"):
        kept.get("g0")
    kept.close()
    assert caplog.text.count("Bodies are lost") == 1
