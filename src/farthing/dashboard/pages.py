"""Pages: the records of `/api`, drawn by templates. Everything they print is escaped."""

from collections.abc import Callable, Mapping
from hashlib import blake2s
from importlib.resources import files

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from farthing.dashboard import charts, show
from farthing.dashboard.figures import Figures
from farthing.dashboard.views import CallLine, Calls, Receipt, Trouble
from farthing.dashboard.windows import RANGES

MOST_FLYING = 4
MOST_SLICES = 8
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


class Asset(msgspec.Struct, frozen=True):
    """A static file, with a name for its content, so that a browser may keep it for ever."""

    body: bytes
    media_type: str
    digest: str


def load_assets() -> dict[str, Asset]:
    """Every static file by name."""
    return {
        file.name: Asset(file.read_bytes(), kind, blake2s(file.read_bytes(), digest_size=6).hexdigest())
        for file in files("farthing.dashboard").joinpath("assets").iterdir()
        if (kind := _TYPES.get(file.name.rpartition(".")[2]))
    }


class Pages:
    """Draws the pages of one dashboard."""

    def __init__(self, assets: Mapping[str, Asset], version: str) -> None:
        templates = Environment(
            loader=PackageLoader("farthing.dashboard"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        filters: tuple[Callable[..., object], ...] = (
            show.amounts, show.clock, show.count, show.dollars, show.duration, show.exactly, show.finest, show.fixed,
            show.less, show.limited, show.mark, show.moment, show.percent, show.places, show.unit_price, show.words,
            charts.along, charts.proportion,
        )  # fmt: skip
        templates.filters.update({function.__name__: function for function in filters})
        templates.globals.update(
            asset=lambda name: f"/assets/{name}?v={assets[name].digest}",
            ranges=RANGES,
            version=version,
            wide=charts.WIDTH,
            high=charts.HEIGHT,
            most_flying=MOST_FLYING,
            most_slices=MOST_SLICES,
        )
        self._overview = templates.get_template("overview.html")
        self._receipt = templates.get_template("receipt.html")
        self._trouble = templates.get_template("trouble.html")

    def overview(self, figures: Figures, calls: Calls, base_url: str) -> str:
        """The page at `/`."""
        return self._overview.render(
            summary=figures.summary,
            chart=charts.chart(figures.series),
            falls=charts.waterfall(figures.summary),
            calls=calls.calls,
            base_url=base_url,
        )

    def receipt(self, receipt: Receipt) -> str:
        """The page of one call."""
        call: CallLine = receipt.call
        return self._receipt.render(
            receipt=receipt,
            call=call,
            falls=charts.fall_of(call, receipt.savings),
            timeline=charts.timeline(call),
        )

    def trouble(self, trouble: Trouble) -> str:
        """The page of a question that cannot be answered."""
        return self._trouble.render(trouble=trouble)
