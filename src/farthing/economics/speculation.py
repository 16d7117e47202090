"""Speculative decoding: what drafting tokens ahead gains while memory is the bottleneck, and from what batch it costs.

A cycle drafts g tokens and verifies them in one iteration of the model, which reads its weights once for g + 1 tokens
of each sequence. If each draft is accepted with chance a, a cycle yields E = 1 + a + ... + a^g tokens (Y. Leviathan et
al., arXiv 2211.17192), so

    speed-up = E * step(B) / (step of B sequences with g + 1 tokens + g * draft step)

Verification is free only while reading weights hides multiplying; a mixture of experts also reads more of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from farthing.economics.money.plausible import number
from farthing.economics.serving import Load, decode_step_s
from farthing.economics.step import Real, StepCosts, step_seconds
from farthing.errors import RequestError

Floats = NDArray[np.float64]

MOST_DRAFTS = 20
_HALVINGS = 60
_PER_OCTAVE = 8


class Drafter(NamedTuple):
    """What proposes tokens: the costs of one of its steps, and whether it takes one for each draft or one for all."""

    costs: StepCosts
    one_by_one: bool = True


class Speculated(NamedTuple):
    """What speculation comes to; floats, or arrays with one element per number of drafts or per batch."""

    drafts: Real
    tokens_per_cycle: Real
    cycle_s: Real
    speed_up: Real
    """Over decoding one token at a time; below 1 it costs."""

    @property
    def tpot_s(self) -> Real:
        """Seconds per token of one sequence."""
        return self.cycle_s / self.tokens_per_cycle


def expected_tokens(acceptance: Real, drafts: Real) -> Real:
    """Tokens per cycle when each draft is accepted with the same chance, (1 - a^(g+1)) / (1 - a); arrays broadcast.

    >>> float(expected_tokens(0.5, 2)), float(expected_tokens(1.0, 4))
    (1.75, 5.0)
    """
    chance, ahead = np.asarray(acceptance, dtype=np.float64), np.asarray(drafts, dtype=np.float64)
    if not ((chance >= 0).all() and (chance <= 1).all()):
        raise RequestError(f"Drafts are accepted with a chance of {acceptance}.", hint="Give a share from 0 to 1.")
    if not ((ahead >= 0).all() and np.isfinite(ahead).all()):
        raise RequestError(f"{drafts} tokens are drafted per cycle.", hint="Give 0 or more.")
    missed = np.minimum(chance, 1.0 - 1e-12)
    found: Real = np.where(chance >= 1.0, ahead + 1.0, (1.0 - missed ** (ahead + 1.0)) / (1.0 - missed))
    return found


def expected_tokens_by_position(acceptances: Sequence[float]) -> float:
    """Tokens per cycle when the chance depends on the position: 1 + a1 + a1 a2 + ..., each given those before it.

    >>> expected_tokens_by_position([0.8, 0.5])
    2.2
    """
    if not all(0 <= number("a position", "acceptance", chance) <= 1 for chance in acceptances):
        raise RequestError(f"Drafts are accepted with chances of {list(acceptances)}.", hint="Give shares from 0 to 1.")
    return 1.0 + float(np.cumprod(np.asarray(acceptances, dtype=np.float64)).sum())


def acceptance_of(accepted: float, drafted: float, drafts: int) -> float:
    """The chance a that counts of accepted and drafted tokens imply, with `drafts` per cycle. Raises RequestError.

    Engines count all drafts, also those after the first that failed, so accepted / drafted is (a + ... + a^g) / g.

    >>> round(acceptance_of(accepted=875.0, drafted=3000.0, drafts=3), 3)
    0.5
    """
    for name, count in (("accepted", accepted), ("drafted", drafted)):
        if number("the engine", f"{name} tokens", count) < 0:
            raise RequestError(f"The engine counted {count:g} {name} tokens.", hint="Give 0 or more.")
    if not drafted or accepted > drafted:
        raise RequestError(
            f"The engine accepted {accepted:g} of {drafted:g} drafted tokens.",
            hint="Give counts of one and the same time, with at least one draft.",
        )
    if drafts < 1:
        raise RequestError(f"{drafts} tokens are drafted per cycle.", hint="Give 1 or more.")
    tokens = 1.0 + accepted / drafted * drafts
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if float(expected_tokens(middle, drafts)) < tokens else (low, middle)
    return high


def head(target: StepCosts, share: float) -> Drafter:
    """A drafter that runs on the model's own hidden states (EAGLE, MTP), and reads `share` of its weights.

    One layer and the output head of Llama-3.1-70B are 0.027 of it. Raises RequestError for what is no share.
    """
    if not 0 < number("the head", "share of weights", share) <= 1:
        raise RequestError(f"A head reads {share:g} of the weights.", hint="Give a share above 0, at most 1.")
    scaled = {name: getattr(target, name) * share for name in _SHARED}
    return Drafter(target._replace(**scaled, host_sequence_s=0.0))


_SHARED = (
    "weights_s", "experts_s", "context_s", "window_s", "token_s", "pair_s", "link_s", "link_token_s", "host_s",
)  # fmt: skip


def lookup(host_s: float = 1e-4) -> Drafter:
    """A drafter that finds n-grams in the prompt on the host, in so many seconds per iteration; raises RequestError."""
    if number("the lookup", "host_s", host_s) < 0:
        raise RequestError(f"A lookup takes {host_s:g} s.", hint="Give 0 or more.")
    nothing = StepCosts(*(0.0 for _ in range(12)))
    return Drafter(nothing._replace(host_s=host_s, expert_miss=1.0), one_by_one=False)


def verify_s(target: StepCosts, load: Load, drafts: Real) -> Real:
    """Seconds of an iteration that checks `drafts` tokens of each of `load.concurrency` sequences, and adds one.

    The cache of a sequence is read once for all of its tokens. Each of them is multiplied, routed, sampled and checked,
    which the host does for each as it does for a sequence.
    """
    sequences, context = load.concurrency, load.input_tokens + load.output_tokens / 2
    more = sequences * drafts
    near = np.minimum(context, load.window)
    return step_seconds(target, sequences, sequences * context, sequences * near, more, more * context, more)


def speculate(target: StepCosts, drafter: Drafter, load: Load, acceptance: Real, drafts: Real) -> Speculated:
    """What drafting so many tokens per cycle comes to at `load.concurrency` sequences; arrays broadcast.

    With 0 drafts it is plain decoding. Raises RequestError for an acceptance, a count or a load that makes no sense.
    """
    _check(load)
    tokens = expected_tokens(acceptance, drafts)
    ahead = np.asarray(drafts, dtype=np.float64)
    plain = decode_step_s(target, load, load.concurrency)
    steps = ahead if drafter.one_by_one else np.minimum(ahead, 1.0)
    cycle = verify_s(target, load, ahead) + steps * decode_step_s(drafter.costs, load, load.concurrency)
    return Speculated(drafts, tokens, cycle, plain * tokens / cycle)


def best_drafts(
    target: StepCosts, drafter: Drafter, load: Load, acceptance: float, most: int = MOST_DRAFTS
) -> Speculated:
    """The number of drafts, 0 to `most`, with the least time per token. Raises RequestError."""
    if most < 1:
        raise RequestError(f"At most {most} tokens may be drafted.", hint="Give 1 or more.")
    ahead = np.arange(most + 1, dtype=np.float64)
    found = speculate(target, drafter, load, acceptance, ahead)
    place = int(np.argmax(found.speed_up))
    row = (float(np.broadcast_to(np.asarray(values), ahead.shape)[place]) for values in found)
    return Speculated(*row)


def break_even_batch(
    target: StepCosts, drafter: Drafter, load: Load, acceptance: float, drafts: int, most: int = 4096
) -> int | None:
    """The largest batch up to `most` at which `drafts` drafts still gain, of those tried; `None` where none does.

    Batches are tried eight to the octave: a mixture of experts may lose at small batches and gain at larger ones.
    Raises RequestError.
    """
    if most < 1 or drafts < 1:
        raise RequestError(f"{drafts} drafts at batches up to {most} were asked for.", hint="Give 1 or more each.")
    steps = int(np.ceil(np.log2(most) * _PER_OCTAVE)) + 1
    batches = np.unique(np.round(np.geomspace(1.0, most, max(steps, 1))))
    found = speculate(target, drafter, load._replace(concurrency=batches), acceptance, float(drafts))
    gains = np.flatnonzero(np.asarray(found.speed_up) > 1.0)
    if not len(gains):
        return None
    last = int(gains[-1])
    if last == len(batches) - 1:
        return most
    low, high = int(batches[last]), int(batches[last + 1])
    while high - low > 1:
        middle = (low + high) // 2
        gain = speculate(target, drafter, load._replace(concurrency=float(middle)), acceptance, float(drafts)).speed_up
        low, high = (middle, high) if float(gain) > 1.0 else (low, middle)
    return low


def _check(load: Load) -> None:
    for name in ("concurrency", "input_tokens", "output_tokens"):
        values = np.asarray(getattr(load, name), dtype=np.float64)
        if not ((values > 0).all() and np.isfinite(values).all()):
            raise RequestError(f"A load has {getattr(load, name)} for {name}.", hint="Give numbers above 0.")
