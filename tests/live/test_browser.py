"""A real browser on the pages of a running gateway, driven over its DevTools pipe."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from queue import Empty, Queue

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 60
QUESTION = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "What does a farthing buy?"}]}
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
ON_PIPES = """
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
REPORT_VIOLATIONS = """
    globalThis.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
"""

if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("no chromium on this machine", allow_module_level=True)


class Browser:
    """One page of a headless browser. Every complaint that it logs is kept in `complaints`."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = os.fdopen(commands, "wb", buffering=0)
        self._answers: Queue[dict] = Queue()
        self._next = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        self._loaded = False
        threading.Thread(target=self._listen, args=(answers,), daemon=True).start()
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        self.ask("Page.addScriptToEvaluateOnNewDocument", source=REPORT_VIOLATIONS)

    def _listen(self, answers: int) -> None:
        with os.fdopen(answers, "rb") as stream:
            buffer = b""
            while chunk := stream.read1(65536):
                *messages, buffer = (buffer + chunk).split(b"\0")
                for message in messages:
                    self._answers.put(json.loads(message))

    def ask(self, method: str, **params: object) -> dict:
        """The result of one command."""
        self._next += 1
        command = {"id": self._next, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        self._commands.write(json.dumps(command).encode() + b"\0")
        while True:
            message = self._answers.get(timeout=PATIENCE)
            if message.get("id") == self._next:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: dict) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(params["args"]))

    def open(self, url: str) -> None:
        """Go to a page, and wait until it has loaded."""
        self._loaded = False
        assert "errorText" not in self.ask("Page.navigate", url=url)
        self.wait_for_load()

    def wait_for_load(self) -> None:
        while not self._loaded:
            self._note(self._answers.get(timeout=PATIENCE))

    def eval(self, expression: str) -> object:
        """The value of an expression of JavaScript."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self, selector: str = "body") -> str:
        return str(self.eval(f"document.querySelector({json.dumps(selector)}).innerText"))

    def wait_until(self, expression: str) -> None:
        """Wait until an expression is true; the page says when, not the clock."""
        changed = "new MutationObserver(check).observe(document, {subtree: true, childList: true, characterData: true})"
        self.eval(
            f"new Promise((resolve) => {{ const check = () => {{ if ({expression}) resolve(); }}; {changed}; check(); }})"
        )

    def click(self, selector: str) -> None:
        """Follow a link, and wait for what it leads to."""
        self._loaded = False
        self.eval(f"document.querySelector({json.dumps(selector)}).click()")
        self.wait_for_load()

    def press_tab(self) -> None:
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)

    def emulate(self, width: int, scheme: str = "light", medium: str = "") -> None:
        """Look at the page at a width, in a colour scheme, on a medium."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=1200, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=medium, features=features)


@contextmanager
def running_browser() -> Iterator[Browser]:
    assert CHROMIUM is not None, "the browser tests need chromium: apt-get install chromium"
    profile = tempfile.mkdtemp(prefix="farthing-browser-")
    commands_out, commands_in = os.pipe()
    answers_out, answers_in = os.pipe()
    launcher = [sys.executable, "-c", ON_PIPES, str(commands_out), str(answers_in)]
    process = subprocess.Popen(
        [*launcher, CHROMIUM, *FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(commands_out, answers_in),
        stderr=subprocess.DEVNULL,
    )
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, profile, ignore_errors=True)
        stack.callback(process.wait, 30)
        stack.callback(process.kill)
        os.close(commands_out)
        os.close(answers_in)
        yield Browser(commands_in, answers_out)


@pytest.fixture(scope="module")
def browser():
    with running_browser() as page:
        yield page


@pytest.fixture
def page(browser):
    """The browser at its usual width, with nothing to complain about before or after."""
    browser.complaints.clear()
    browser.emulate(1280)
    yield browser
    try:
        while True:
            browser._note(browser._answers.get_nowait())
    except Empty:
        pass
    assert browser.complaints == []
    assert browser.eval("violations") == []


@pytest.fixture
def busy(gateway):
    """A gateway that has answered, answered again from its cache, and refused."""
    for _ in range(3):
        assert gateway.post("/v1/chat/completions", QUESTION).status == 200
    gateway.post("/v1/chat/completions", {**QUESTION, "temperature": 1}, {"x-farthing-feature": "<b>bold</b>"})
    gateway.entries()
    return gateway


def test_the_overview_shows_the_figures_of_the_api(page, busy):
    page.open(busy.url)
    summary = busy.get("/api/summary").json
    cards = page.text("#cards")
    assert summary["calls"] == 4
    assert f"of {summary['calls']} requests" in cards
    assert "66.7 %" in cards
    assert page.eval('document.querySelector("#cards .value").title') == "$" + summary["cost"]["usd"]
    assert "Simulated." in page.text("#notices")
    assert "<b>bold</b>" in page.text("#features")
    assert page.eval('document.querySelectorAll("#recent tbody tr").length') == 4
    assert page.eval('document.querySelectorAll(".chart-plot g rect:not(.reach)").length') > 0


def test_a_click_opens_the_receipt_and_its_lines_add_up(page, busy):
    page.open(busy.url)
    bought = next(call for call in busy.get("/api/calls").json["calls"] if call["cache"] == "miss")
    page.click(f'a[href="/calls/{bought["id"]}"]')
    lines = page.eval('[...document.querySelectorAll(".lines tbody tr")].map((row) => row.lastElementChild.innerText)')
    paid = page.text(".lines .sum td")
    pico = [int(re.sub(r"[$.,]", "", amount)) for amount in [*lines, paid]]
    assert len(lines) >= 2
    assert sum(pico[:-1]) == pico[-1]
    assert paid.rstrip("0") == "$" + bought["cost"]["usd"]
    assert bought["id"] in page.text()


def test_the_page_keeps_itself_up_to_date(page, gateway):
    page.open(gateway.url)
    assert "export OPENAI_BASE_URL=" + gateway.url + "/v1" in page.text()
    gateway.post("/v1/chat/completions", QUESTION)
    gateway.entries()
    page.wait_until('document.querySelectorAll("#recent tbody tr").length === 1')
    page.eval('document.querySelector("#spend details").open = true')
    page.eval('document.querySelector("#recent a").focus()')
    focused = page.eval("document.activeElement.href")
    gateway.post("/v1/chat/completions", QUESTION)
    gateway.entries()
    page.wait_until('document.querySelectorAll("#recent tbody tr").length === 2')
    assert page.eval('document.querySelector("#spend details").open')
    assert page.eval("document.activeElement.href") == focused
    assert page.text(".pulse") == "Live"


def test_it_works_from_the_keyboard(page, busy):
    page.open(busy.url)
    page.press_tab()
    assert page.eval("document.activeElement.innerText") == "Skip to the figures"
    reached = set()
    for _ in range(20):
        page.press_tab()
        reached.add(page.eval('document.activeElement.getAttribute("href") || document.activeElement.tagName'))
    calls = {f"/calls/{call['id']}" for call in busy.get("/api/calls").json["calls"]}
    assert reached >= {"/?range=7d", "SUMMARY", *calls}


@pytest.mark.parametrize("width", [360, 480, 800, 1280])
def test_nothing_hangs_over_the_edge(page, busy, width):
    page.emulate(width)
    call = busy.get("/api/calls").json["calls"][0]["id"]
    for path in ("/", f"/calls/{call}"):
        page.open(busy.url + path)
        assert page.eval("document.documentElement.scrollWidth") <= width


def test_it_follows_the_colour_scheme_and_prints_on_white(page, busy):
    background = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    page.open(busy.url)
    assert min(page.eval(background)) > 200
    page.emulate(1280, "dark")
    assert max(page.eval(background)) < 60
    page.emulate(1280, "light", "print")
    assert min(page.eval(background)) == 255
    assert page.eval('getComputedStyle(document.querySelector(".pulse")).display') == "none"


def test_the_chart_and_the_sections_have_names_for_those_who_do_not_see(page, busy):
    page.open(busy.url)
    page.ask("Accessibility.enable")
    nodes = page.ask("Accessibility.getFullAXTree")["nodes"]
    named = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]}
    assert ("heading", "What inference costs") in named
    assert any(role == "image" and name.startswith("Spend over time") for role, name in named), named
    assert {("region", name) for name in ("Spend by model", "From list price to paid", "Latest calls")} <= named
    assert ("navigation", "Range") in named
