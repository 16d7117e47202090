"""Drift: whether audited answers disagree more often than they may, looked at as often as one likes.

Each audit is a bet on a rate above the gate, at odds that are fair at the gate, so wealth is a supermartingale while
the rate is no higher: by Ville's inequality it ever reaches 1 / alpha with probability alpha at most, whenever and
however often it is looked at. Bets are mixed over rates. J. Ville, "Etude critique de la notion de collectif" (1939);
H. Robbins, Annals of Mathematical Statistics 41 (1970); I. Waudby-Smith and A. Ramdas, "Estimating means of bounded
random variables by betting", JRSS B 86 (2024).
"""

import math

import msgspec

from farthing.errors import RequestError


class Drift(msgspec.Struct, frozen=True):
    """How many answers were audited so far, and on how many of them the audit disagreed."""

    audited: int = 0
    disagreed: int = 0

    def noting(self, disagrees: bool) -> "Drift":
        """This, and one more audit."""
        return Drift(self.audited + 1, self.disagreed + disagrees)


def exceeds(audited: int, disagreed: int, gate: float, alpha: float = 0.05) -> bool:
    """Whether the true rate of disagreement is above `gate`, wrongly so in at most `alpha` of all watches.

    That holds however often it is asked, and when the rate changes as long as it stays below the gate. Raises
    RequestError for counts or shares that make no sense.

    >>> exceeds(200, 10, gate=0.05), exceeds(200, 25, gate=0.05)
    (False, True)
    """
    if not 0 < alpha < 1:
        raise RequestError(f"A false alarm may come in {alpha:g} of all watches.", hint="Give a share between 0 and 1.")
    return log_evidence(audited, disagreed, gate) >= -math.log(alpha)


def log_evidence(audited: int, disagreed: int, gate: float) -> float:
    """The natural logarithm of what a bet of 1 on a rate above the gate has become. Raises RequestError.

    Rates above the gate are bet on by the weights of a beta distribution (1, 1 / gate): most on those below its double.

    >>> log_evidence(0, 0, 0.05)
    0.0
    """
    if not 0 <= disagreed <= audited:
        raise RequestError(
            f"{disagreed} of {audited} audited answers disagree.", hint="Count no more than were audited."
        )
    if not 0 <= gate <= 1:
        raise RequestError(f"The gate is a rate of {gate:g}.", hint="Give a share between 0 and 1.")
    if gate in (0.0, 1.0):
        # At the ends there is nothing to bet on: none may disagree, or all may.
        return math.inf if gate == 0.0 and disagreed else 0.0
    agreed, weight = audited - disagreed, max(1, round(1 / gate))
    won = _log_beta(disagreed + 1, agreed + weight) + _log_at_most(audited + weight, disagreed, gate)
    staked = _log_beta(1, weight) + _log_at_most(weight, 0, gate)
    return won - staked - disagreed * math.log(gate) - agreed * math.log1p(-gate)


def _log_beta(a: int, b: int) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_at_most(n: int, k: int, p: float) -> float:
    """The logarithm of the probability of k or fewer of n, each with probability p.

    It is also the share of a beta distribution (k + 1, n - k) that lies above p, which is what it is needed for.
    """
    if k >= n:
        return 0.0
    if k >= n * p:
        return math.log1p(-math.exp(_log_at_most(n, n - k - 1, 1 - p)))
    # Downwards from k, terms fade ever faster, so the sum is as short as it can be.
    term = total = 1.0
    for j in range(k, 0, -1):
        term *= j / (n - j + 1) * (1 - p) / p
        total += term
        if term < total * 1e-17:
            break
    return _log_mass(n, k, p) + math.log(total)


def _log_mass(n: int, k: int, p: float) -> float:
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return choose + k * math.log(p) + (n - k) * math.log1p(-p)
