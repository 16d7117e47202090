"""Export: every field has its cell, money is exact, and no cell is a formula."""

import csv
import io
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from farthing.ledger.export import COLUMNS, FORMULA, csv_row
from farthing.schema import METERS, Decision, Entry, Usage

HOSTILE = st.text(max_size=12) | st.sampled_from(["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "a,b\n"])


def row(entry: Entry) -> dict[str, str]:
    return dict(zip(COLUMNS, csv_row(entry), strict=True))


def entry(**changes) -> Entry:
    return Entry(**{"id": "a.1", "group": "a", "attempt": 1, "at": 0, "endpoint": "chat", "model": "m", **changes})


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_no_text_of_a_caller_begins_a_formula(model, feature, tag, error):
    cells = csv_row(entry(model=model, feature=feature, tags=((tag, tag),), error=error))
    assert not any(cell.startswith(FORMULA) for cell in cells)


@given(HOSTILE, st.integers(0, 10**18), st.integers(0, 10**9))
def test_a_row_survives_the_way_through_a_csv_file(model, cost, tokens):
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    writer.writerow(csv_row(entry(model=model, cost=cost, usage=Usage(output=tokens))))
    file.seek(0)
    (found,) = csv.DictReader(file)
    assert found["model"].removeprefix("'") == model.removeprefix("'")
    assert Decimal(found["cost_usd"]) * 10**12 == cost
    assert found["output"] == found["tokens"] == str(tokens)


def test_what_is_unknown_is_empty_and_never_zero():
    cells = row(entry())
    assert cells["cost_usd"] == cells["list_cost_usd"] == cells["tokens"] == cells["served"] == ""
    assert all(cells[meter] == "" for meter in METERS)
    assert row(entry(cost=0))["cost_usd"] == "0"


def test_small_amounts_are_written_out():
    assert row(entry(cost=1))["cost_usd"] == "0.000000000001"
    assert row(entry(cost=-31_250_000))["cost_usd"] == "-0.00003125"


def test_decisions_and_tags_are_json():
    cells = row(entry(tags=(("a", "b"),), decisions=(Decision("route", "x", {"n": 1}),)))
    assert cells["tags"] == '[["a","b"]]'
    assert cells["decisions"] == '[{"lever":"route","verdict":"x","facts":{"n":1}}]'
