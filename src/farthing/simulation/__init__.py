"""Simulated traffic and simulated answers: pure functions of a seed."""
