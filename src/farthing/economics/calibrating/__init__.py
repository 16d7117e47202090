"""Calibrating: measurements in, constants with their errors out."""
