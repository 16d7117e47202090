"""The power model that comes with Farthing."""

import tomllib
from importlib import resources

from farthing.economics.energy.power import PowerModel
from farthing.economics.energy.power_fit import parse_power


def power_model() -> PowerModel:
    """The packaged constants of power, fitted to public measurements."""
    text = (resources.files("farthing.economics") / "data" / "power.toml").read_text("utf-8")
    return parse_power("power.toml", tomllib.loads(text))
