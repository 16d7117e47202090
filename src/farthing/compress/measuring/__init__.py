"""Measurement: what an artefact takes of disk, memory, time and energy, run by what will serve it."""

from farthing.compress.measuring.machine import MachineFacts, machine_facts
from farthing.compress.measuring.measurement import Measurement, Ratio
from farthing.compress.measuring.rounds import measure, measure_together

__all__ = ["MachineFacts", "Measurement", "Ratio", "machine_facts", "measure", "measure_together"]
