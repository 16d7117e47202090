"""Probing: the sweep of `farthing.advisor.probe` over HTTP."""

import asyncio
from random import SystemRandom
from urllib.parse import urlsplit

from farthing.advisor.probe import Probed, ProbePlan, Progress, probe
from farthing.economics.calibrating.setup import Setup
from farthing.errors import RequestError
from farthing.providers.http import HttpSettings, HttpUpstream

_CONNECT_SECONDS = 10.0


def probe_engine(
    url: str, setup: Setup, plan: ProbePlan, progress: Progress, *, model: str = "", api_key: str = ""
) -> Probed:
    """Measure an OpenAI-compatible engine of one's own at `url`, with or without its /v1; see `probe`.

    An interrupt from the keyboard ends it with what was measured. Raises RequestError when nothing was.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RequestError(f"'{url}' is no address of an engine.", hint="Write it like http://localhost:8000.")
    path = parts.path.rstrip("/")
    base = f"{parts.scheme}://{parts.netloc}{path if path.endswith('/v1') else path + '/v1'}"
    settings = HttpSettings(
        name=base,
        provider="",
        base_url=base,
        api_key=api_key,
        connections=plan.most_callers + 1,
        connect_timeout=_CONNECT_SECONDS,
        stall_timeout=plan.most_seconds,
        deadline=plan.most_seconds,
    )
    found = asyncio.run(_probe(settings, setup, plan, progress, model))
    if not found.measurements:
        raise RequestError(
            f"Nothing was measured at {base}: {found.stopped}.", hint="Raise the limits, or ask for less at once."
        )
    return found


async def _probe(settings: HttpSettings, setup: Setup, plan: ProbePlan, progress: Progress, model: str) -> Probed:
    upstream = HttpUpstream(settings)
    try:
        return await probe(upstream, setup, plan, SystemRandom(), progress, model)
    finally:
        await upstream.close()
