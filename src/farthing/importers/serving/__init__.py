"""Measured serving from files: rows, reports of load generators, metrics of engines, and our own ledger."""

from farthing.importers.serving.detect import FORMATS, METRICS, Format, detect, read_all
from farthing.importers.serving.engine_metrics import Scrape, measure, read_scrapes
from farthing.importers.serving.ledger_points import LedgerPoints, Windowing, ledger_points
from farthing.importers.serving.rows import read_measurements

__all__ = [
    "FORMATS",
    "METRICS",
    "Format",
    "LedgerPoints",
    "Scrape",
    "Windowing",
    "detect",
    "ledger_points",
    "measure",
    "read_all",
    "read_measurements",
    "read_scrapes",
]
