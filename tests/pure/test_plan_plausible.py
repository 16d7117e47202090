"""No figure that is unknown, infinite or on the wrong side of a bound gets through."""

import math

import msgspec
import numpy as np
import pytest

from farthing.economics.money.plausible import LARGEST, number, require, title
from farthing.errors import RequestError


class RentedNode(msgspec.Struct, frozen=True):
    usd_per_h: object
    name: str = ""


@pytest.mark.parametrize(
    "value", [None, math.nan, math.inf, -math.inf, "3", True, 2 * LARGEST, -2 * LARGEST, 10**400, [1]]
)
@pytest.mark.parametrize("rule", ["above_zero", "at_least_zero", "shares", "counts", "whole"])
def test_what_is_no_figure_is_refused_by_every_rule(value, rule):
    with pytest.raises(RequestError) as refused:
        require(RentedNode(value), **{rule: ("usd_per_h",)})
    assert "The rented node" in refused.value.message
    assert "usd_per_h" in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(
    ("rule", "fits", "refused"),
    [
        ("above_zero", [1e-9, 3, np.float64(2)], [0, -1, -0.0]),
        ("at_least_zero", [0, 0.5, np.int64(4)], [-1e-9]),
        ("shares", [0, 0.5, 1], [-0.1, 1.0001]),
        ("counts", [1, 2.0, np.int64(8)], [0, -1, 1.5]),
        ("whole", [0, 3], [-1, 0.5]),
    ],
)
def test_each_rule_has_its_bound(rule, fits, refused):
    for value in fits:
        require(RentedNode(value), **{rule: ("usd_per_h",)})
    for value in refused:
        with pytest.raises(RequestError, match=f"{value:.6g}"):
            require(RentedNode(value), **{rule: ("usd_per_h",)})


def test_a_record_is_called_by_its_name():
    assert title(RentedNode(1, "a3")) == "the rented node 'a3'"
    assert title(RentedNode(1)) == "the rented node"


def test_the_unknown_is_not_taken_for_nothing():
    with pytest.raises(RequestError) as refused:
        number("the price of 'A3'", "usd_per_h", None)
    assert refused.value.message == "The price of 'A3' has no usd_per_h: it is not known."
    assert "not taken for 0" in refused.value.hint
