"""Examples: texts, and what a model is to say of each."""

import msgspec
import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int, int]
"""First character, character after the last, and index of the label."""

Targets = NDArray[np.int64] | NDArray[np.float32] | tuple[tuple[Span, ...], ...] | None


class Examples(msgspec.Struct, frozen=True):
    """Texts with their targets, in one order; no targets when nobody said.

    Targets of a classification are class indices, int64 [n]; of a multi-label task 0 or 1, float32 [n, labels]; of a
    regression float32 [n]; of tagging the spans of each text. `seconds` are the second texts of pairs (a document to be
    scored against a query, a sentence that means the same), empty where texts stand alone.
    """

    texts: tuple[str, ...]
    targets: Targets = None
    seconds: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)
