"""Every figure on the pages about money is what the functions give."""

import doctest
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "concepts" / "plan"


@pytest.mark.parametrize("name", ["money.md", "fleet-mix.md"])
def test_the_examples_of_a_page_hold(name):
    failed, tried = doctest.testfile(str(PAGES / name), module_relative=False)
    assert tried > 3
    assert not failed
