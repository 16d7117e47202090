"""What calls turned out to be, and so what the next ones are likely to be at most."""

from typing import Final

FIRST_RATIO: Final = 0.35
"""Prompt tokens per byte of a body, before any was seen: English prose comes to 0.22, dense JSON to 0.4."""
FIRST_OUTPUT: Final = 1024
FORGETTING: Final = 0.02
MODELS: Final = 1024


class Calibration:
    """A recent upper envelope, by model, of tokens per byte and of tokens per answer.

    It rises to each new maximum at once and sinks by a fiftieth of the way towards each lower sample: most calls stay
    under it. It is no bound, and is used only where nothing worse than a late refusal follows.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float]] = {}

    def note(self, model: str, size: int, prompt: int, output: int) -> None:
        """Learn from one call: bytes of its body, tokens of its prompt and of its answer."""
        ratio, answer = self._seen.get(model, (0.0, 0.0))
        if len(self._seen) >= MODELS and model not in self._seen:
            self._seen.clear()
        self._seen[model] = _envelope(ratio, prompt / max(size, 1)), _envelope(answer, output)

    def expected(self, model: str, size: int, cap: int) -> int:
        """Tokens that a call is likely to use at most: its prompt of `size` bytes, and an answer of up to `cap` tokens.

        >>> Calibration().expected("new", 1000, 100)
        450
        """
        ratio, answer = self._seen.get(model, (FIRST_RATIO, FIRST_OUTPUT))
        return round(size * ratio) + min(cap, round(answer))


def _envelope(level: float, sample: float) -> float:
    return sample if sample >= level else level + FORGETTING * (sample - level)
