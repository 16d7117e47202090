"""How long a simulated answer takes."""

import msgspec

from farthing.simulation.answers import Answer


class Pace(msgspec.Struct, frozen=True):
    """How fast a model answers, in seconds: before the first token, per prompt token, and per token of output."""

    first: float = 0.25
    per_prompt_token: float = 30e-6
    per_token: float = 0.010


_PACES = {
    "gpt-6-sol": Pace(first=0.45, per_token=0.014),
    "gpt-6-luna": Pace(first=0.18, per_token=0.005),
    "claude-opus-5-5": Pace(first=0.70, per_token=0.018),
    "claude-haiku-5-5": Pace(first=0.20, per_token=0.006),
    "text-embedding-3-small": Pace(first=0.05, per_prompt_token=2e-6),
}
_USUAL = Pace()


def first_token_after(answer: Answer) -> float:
    """Seconds from question to first token."""
    pace = _PACES.get(answer.model, _USUAL)
    return pace.first + pace.per_prompt_token * (answer.usage.input_tokens if answer.usage else 0)


def per_token(answer: Answer) -> float:
    """Seconds between tokens of output."""
    return _PACES.get(answer.model, _USUAL).per_token


def complete_after(answer: Answer) -> float:
    """Seconds from question to last token."""
    return first_token_after(answer) + per_token(answer) * (answer.usage.output_tokens if answer.usage else 0)
