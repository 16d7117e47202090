"""Farthing: the best answer per dollar from language models in production."""

__version__ = "0.1.0"
