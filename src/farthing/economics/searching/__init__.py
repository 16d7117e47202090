"""Searching: every way of serving a load, held against limits of time, by cost."""
