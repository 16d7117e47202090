"""Quantization: weights and products in 8 bits, tables of embeddings in 8 or 4, and training that knows of it."""

from farthing.compress.quantizing.choosing import Chosen, Sensitivity, Tried, choose, sensitivity
from farthing.compress.quantizing.recipes import Batch, Recipe, padded_batches, quantize, recipe_of
from farthing.compress.quantizing.rounding import fake_quantized

__all__ = [
    "Batch",
    "Chosen",
    "Recipe",
    "Sensitivity",
    "Tried",
    "choose",
    "fake_quantized",
    "padded_batches",
    "quantize",
    "recipe_of",
    "sensitivity",
]
