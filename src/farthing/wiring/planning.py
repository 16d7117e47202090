"""What the planner knows: the packaged facts, with the user's rows on top."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import msgspec

from farthing.economics.calibrating.calibration import Calibration
from farthing.economics.facts.catalogue import Catalogue
from farthing.economics.facts.parsing import parse_catalogue
from farthing.errors import ConfigError

FACTS = ("hardware.toml", "models.toml", "prices.toml", "grid.toml", "ownership.toml")


def catalogue(files: Sequence[Path] = ()) -> Catalogue:
    """The packaged catalogue, with rows of the user's TOML files on top; the last of a name holds.

    Raises ConfigError when a file cannot be read, or names the row and key that are wrong in it.
    """
    packaged = resources.files("farthing.economics") / "data"
    texts = {name: (packaged / name).read_text("utf-8") for name in FACTS}
    return parse_catalogue(texts | {str(path): _read(path) for path in files})


def shipped_calibration() -> Calibration:
    """The calibration that comes with Farthing: fitted to public measurements, with its held-out errors."""
    packaged = resources.files("farthing.economics") / "data" / "calibration.json"
    return msgspec.json.decode(packaged.read_bytes(), type=Calibration)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The file of facts {path} cannot be read: {error}.", hint="Name a TOML file that exists."
        ) from error
