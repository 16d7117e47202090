"""A real browser on the report of a plan, opened from a file."""

import pytest
from live.test_browser import running_browser
from plan_sample import sample

from farthing.dashboard.plan_report import render

OVERLAPPING = """
    (() => {
        const shown = [...document.querySelectorAll(".plot-x span, .plot-y span, .limit-name")]
            .filter((label) => getComputedStyle(label).display !== "none")
            .map((label) => [label.innerText, label.getBoundingClientRect(), label.className]);
        return shown.flatMap(([text, a, kind], index) => shown.slice(index + 1)
            .filter(([, b]) => a.left < b.right && b.left < a.right && a.top < b.bottom - 2 && b.top < a.bottom - 2)
            .map(([other]) => `${text} / ${other}`));
    })()
"""
OUTSIDE = """
    [...document.querySelectorAll(".plot-x span, .plot-y span, .limit-name, .card .value, .card .note")]
        .filter((label) => label.getClientRects().length)
        .filter((label) => {
            const place = label.getBoundingClientRect(), panel = label.closest(".panel, .card").getBoundingClientRect();
            return place.left < panel.left || place.right > panel.right;
        }).map((label) => label.innerText)
"""


@pytest.fixture(scope="module")
def browser():
    with running_browser() as page:
        yield page


@pytest.fixture
def address(tmp_path):
    path = tmp_path / "report.html"
    path.write_text(render(sample()), "utf-8")
    return path.as_uri()


@pytest.mark.parametrize("width", [360, 480, 800, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_hangs_over_the_edge_and_no_labels_overlap(browser, address, width, scheme):
    browser.complaints.clear()
    browser.emulate(width, scheme)
    browser.open(address)
    assert browser.eval("document.documentElement.scrollWidth") <= width
    assert browser.eval(OVERLAPPING) == []
    assert browser.eval(OUTSIDE) == []
    assert browser.complaints == []


def test_it_follows_the_colour_scheme_and_prints_on_white(browser, address):
    background = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    browser.emulate(1280)
    browser.open(address)
    assert min(browser.eval(background)) > 200
    browser.emulate(1280, "dark")
    assert max(browser.eval(background)) < 60
    browser.emulate(1280, "light", "print")
    assert min(browser.eval(background)) == 255


def test_plots_and_panels_have_names_for_those_who_do_not_see(browser, address):
    browser.emulate(1280)
    browser.open(address)
    browser.ask("Accessibility.enable")
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    named = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]}
    assert {("region", name) for name in ("Cost against speed", "What the money buys", "What this rests on")} <= named
    assert sum(role == "image" and len(name) > 20 for role, name in named) >= 4
