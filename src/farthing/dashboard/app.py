"""The control plane: pages for people, JSON for programs, metrics and health for machines. It only reads."""

import re

import msgspec
from prometheus_client import ProcessCollector
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from farthing.dashboard.calls import latest, receipt
from farthing.dashboard.figures import Figures, FiguresByRange
from farthing.dashboard.guard import Guard, problem
from farthing.dashboard.login import Login
from farthing.dashboard.openapi import MOST_CALLS, USUAL_CALLS, document
from farthing.dashboard.pages import Pages, load_assets
from farthing.dashboard.panel import Panel
from farthing.dashboard.summary import in_flight, limits
from farthing.dashboard.views import Calls, Health, InFlight, LimitBar, Receipt, Trouble
from farthing.dashboard.windows import RANGES, Range
from farthing.errors import FarthingError, RequestError, UnknownCall
from farthing.exporters.prometheus import CONTENT_TYPE, Observed, Prometheus
from farthing.routing import Standing

SHOWN_CALLS = 25
FOREVER = 2**63 - 1
KEPT_FOR_A_YEAR = {"cache-control": "public, max-age=31536000, immutable"}
JSON = "application/json"
FORGOTTEN = "A call is there once it is settled, until ledger.retention_days have passed."


def create_app(panel: Panel, admin_token: str = "") -> Starlette:
    """The control plane as an ASGI application; it needs neither lifespan nor websockets.

    With an admin token, every route but health and log-in needs it; without one, this machine sees all of them.
    """
    handlers = _Handlers(panel)
    routes = {
        "/": handlers.overview,
        "/calls/{group}": handlers.receipt_page,
        "/api/summary": handlers.summary,
        "/api/series": handlers.series,
        "/api/calls": handlers.calls,
        "/api/calls/{group}": handlers.receipt,
        "/openapi.json": handlers.openapi,
        "/healthz": handlers.healthz,
        "/readyz": handlers.readyz,
        "/metrics": handlers.metrics,
        "/assets/{name}": handlers.asset,
    }

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path[:200]
        if error.status_code == 405:
            return problem(405, "read_only", f"{path} is only read.", "Use GET.", dict(error.headers or {}))
        return problem(
            error.status_code, "not_found", f"There is nothing at {path}.", f"There are {', '.join(routes)}."
        )

    app = Starlette(
        routes=[Route(path, handler) for path, handler in routes.items()],
        middleware=[Middleware(Guard, panel.allowed_hosts, Login(admin_token, panel.clock) if admin_token else None)],
        exception_handlers={FarthingError: handlers.failed, HTTPException: refused},
    )
    app.router.redirect_slashes = False
    return app


class Live(msgspec.Struct, frozen=True):
    """What is so at this moment, and belongs to no range; read on the event loop."""

    in_flight: tuple[InFlight, ...] = ()
    limits: tuple[LimitBar, ...] = ()


STILL = Live()


class _Handlers:
    """Each takes a request apart, asks for a record and encodes or draws it."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._figures = FiguresByRange(panel)
        self._assets = load_assets()
        self._pages = Pages(self._assets, panel.version)
        self._prometheus = Prometheus(panel.version, panel.policy, ProcessCollector(registry=None))

    async def overview(self, request: Request) -> Response:
        asked, base_url = request.query_params.get("range"), f"{request.url.scheme}://{request.url.netloc}"
        return HTMLResponse(await run_in_threadpool(self._draw_overview, asked, self._live(), base_url))

    async def receipt_page(self, request: Request) -> Response:
        return HTMLResponse(await run_in_threadpool(self._draw_receipt, request.path_params["group"]))

    async def summary(self, request: Request) -> Response:
        asked = request.query_params.get("range")
        figures = await run_in_threadpool(self._figures_of, asked, self._live())
        return _json(figures.summary)

    async def series(self, request: Request) -> Response:
        figures = await run_in_threadpool(self._figures_of, request.query_params.get("range"))
        return _json(figures.series)

    async def calls(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self._calls, _before(request), _limit(request)))

    async def receipt(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self._receipt, request.path_params["group"]))

    async def openapi(self, _: Request) -> Response:
        return Response(document(self._panel.version), media_type=JSON)

    async def healthz(self, _: Request) -> Response:
        aside = tuple(_aside(one) for one in self._panel.rungs() if one.stepped_aside)
        return _json(Health("ok", (*aside, *self._panel.stale())))

    async def readyz(self, _: Request) -> Response:
        reasons = tuple(self._panel.not_ready())
        return _json(Health("not ready", reasons), 503) if reasons else _json(Health("ok"))

    async def metrics(self, _: Request) -> Response:
        panel = self._panel
        elsewhere = panel.elsewhere()
        seen = Observed(
            rollups=(*panel.tally(), *elsewhere.rollups),
            in_flight=len(panel.in_flight()) + elsewhere.in_flight,
            journal_lag=panel.journal_lag() + elsewhere.journal_lag,
            ready=not panel.not_ready(),
            accounts=tuple(panel.accounts()),
            shed=panel.shed() + elsewhere.shed,
            rungs=(*panel.rungs(), *elsewhere.rungs),
            stale_models=len(panel.stale()),
        )
        text = await run_in_threadpool(self._prometheus.render, seen)
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def asset(self, request: Request) -> Response:
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            raise HTTPException(404)
        return Response(asset.body, headers=KEPT_FOR_A_YEAR, media_type=asset.media_type)

    async def failed(self, request: Request, error: Exception) -> Response:
        """An expected failure: a page where a page was asked for, and JSON elsewhere."""
        assert isinstance(error, FarthingError)
        if request.url.path == "/" or request.url.path.startswith("/calls/"):
            trouble = Trouble(error.code, error.message, error.hint)
            return HTMLResponse(self._pages.trouble(trouble), error.status)
        return problem(error.status, error.code, error.message, error.hint)

    def _live(self) -> Live:
        now = self._panel.clock.now()
        return Live(in_flight(self._panel.in_flight(), now), limits(self._panel.accounts(), now))

    def _figures_of(self, asked: str | None, live: Live = STILL) -> Figures:
        span = self._figures.usual_range() if asked is None else _range(asked)
        figures = self._figures.of(span)
        summary = msgspec.structs.replace(figures.summary, in_flight=live.in_flight, limits=live.limits)
        return Figures(summary, figures.series)

    def _calls(self, before: int, limit: int) -> Calls:
        return latest(self._panel.ledger.entries(until=before, newest_first=True), limit)

    def _receipt(self, group: str) -> Receipt:
        entries = self._panel.ledger.group(group)
        if not entries:
            raise UnknownCall(f"The ledger holds no call {group[:80]!r}.", hint=FORGOTTEN)
        return receipt(entries, self._panel.edition)

    def _draw_overview(self, asked: str | None, live: Live, base_url: str) -> str:
        figures = self._figures_of(asked, live)
        return self._pages.overview(figures, self._calls(FOREVER, SHOWN_CALLS), base_url)

    def _draw_receipt(self, group: str) -> str:
        return self._pages.receipt(self._receipt(group))


def _aside(rung: Standing) -> str:
    found = f"{rung.disagreed} of {rung.audited} audited answers differed"
    return f"{rung.upstream} has stepped aside for {rung.model}: {found}."


def _range(asked: str) -> Range:
    for span in RANGES:
        if span == asked:
            return span
    raise RequestError(f"{asked[:80]!r} is no range.", hint=f"The ranges are {', '.join(RANGES)}.")


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(USUAL_CALLS))
    if not re.fullmatch("[0-9]{1,4}", text, re.ASCII) or not 1 <= int(text) <= MOST_CALLS:
        raise RequestError(f"limit={text[:80]!r} is no number of calls.", hint=f"Ask for 1 to {MOST_CALLS}.")
    return int(text)


def _before(request: Request) -> int:
    text = request.query_params.get("before", str(FOREVER))
    if not re.fullmatch("[0-9]{1,19}", text, re.ASCII):
        raise RequestError(f"before={text[:80]!r} is no instant.", hint="Give Unix nanoseconds, as in next_before.")
    return min(int(text), FOREVER)


def _json(answer: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type=JSON)
