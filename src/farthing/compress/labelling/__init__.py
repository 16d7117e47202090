"""Labelling: texts that nobody labelled are given to a large model."""
