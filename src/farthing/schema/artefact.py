"""Artefact: a folder that holds a small model ready to be served, and what `artefact.json` says of it."""

from typing import Final, Literal

import msgspec

Task = Literal["classification", "multi-label", "regression", "tagging", "embedding"]

MANIFEST: Final = "artefact.json"
MODEL: Final = "model.onnx"
TOKENIZER: Final = "tokenizer.json"


class Artefact(msgspec.Struct, frozen=True):
    """What `artefact.json` says of the folder it lies in.

    `labels` name the columns of the model's `logits`. Texts are cut off after `max_length` tokens. `temperature`
    divides logits before they become probabilities, and `threshold` is the confidence from which on an answer is
    good enough to be given without asking a larger model. `files` are the SHA-256 of all other files, in hex. `facts`
    are for people: where it was measured, on what it was trained, which versions made it.
    """

    name: str
    task: Task
    labels: tuple[str, ...]
    max_length: int
    files: dict[str, str]
    temperature: float = 1.0
    threshold: float = 0.0
    created: str = ""
    facts: dict[str, str] = {}
    format: int = 1
