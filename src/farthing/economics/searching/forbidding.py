"""Why something cannot be had: what memory is missing, or which physical term alone takes longer than is allowed."""

from collections.abc import Iterator, Sequence

from farthing.economics.deployment import Workload
from farthing.economics.memory import weights_bytes
from farthing.economics.searching.options import Found, Outlook, Question, Slo, Tight
from farthing.economics.searching.search import lack_bytes
from farthing.economics.searching.space import in_words
from farthing.economics.terms import attention_window
from farthing.errors import RequestError

NAMES = {"ttft_s": "the first token", "tpot_s": "each token after the first", "e2e_s": "the whole answer"}


def decode_terms_s(tight: Tight, workload: Workload) -> dict[str, float]:
    """Seconds of each part of an iteration that gives one caller a token halfway through the answer.

    Reading and multiplying overlap, so only the longer of the two is listed.
    """
    costs = tight.costs
    context = workload.input_tokens + workload.output_tokens / 2
    window = min(context, attention_window(tight.deployment.architecture))
    weights = float(costs.weights_s + costs.experts_s * (1 - costs.expert_miss))
    cache = float(costs.context_s * context + costs.window_s * window)
    compute = float(costs.token_s + costs.sampled_s)
    busy = {"weights": weights, "KV cache": cache} if weights + cache >= compute else {"compute": compute}
    return {
        **busy,
        "link": float(costs.link_s + costs.link_token_s),
        "host": float(costs.host_s + costs.host_sequence_s),
    }


def prefill_terms_s(tight: Tight, workload: Workload) -> dict[str, float]:
    """Seconds of each part of processing one prompt with nothing beside it."""
    costs = tight.costs
    tokens = workload.input_tokens * (1 - workload.cached_share)
    pairs = tokens * (workload.input_tokens - tokens / 2)
    return {
        "compute": float(costs.token_s * tokens + costs.pair_s * pairs + costs.sampled_s),
        "link": float(costs.link_s + costs.link_token_s * tokens),
        "host": float(costs.host_s + costs.host_sequence_s),
    }


def reading_s(tight: Tight) -> tuple[float, float]:
    """Bytes that one token needs of all weights, and the seconds of reading them at the data sheet's bandwidth.

    Stages of a pipeline take turns, so only devices that share a layer read side by side.
    """
    deployment = tight.deployment
    held = weights_bytes(deployment.architecture, deployment.weights)
    experts = held.experts * (1 - float(tight.costs.expert_miss))
    together = max(deployment.expert, deployment.tensor)
    each = (held.shared + held.head) / deployment.tensor + experts / together
    return held.shared + held.head + experts, each / deployment.hardware.memory_bytes_per_s


def violation(tight: Tight, slo: Slo) -> tuple[float, str]:
    """How many times the limit the worst time of a layout takes, and which time it is."""
    limits = {"ttft_s": slo.ttft_s, "tpot_s": slo.tpot_s, "e2e_s": slo.e2e_s}
    ratios = [(getattr(tight, name) / limit, name) for name, limit in limits.items() if limit is not None]
    return max(ratios, default=(0.0, ""))


def nearest(tight: Sequence[Tight], slo: Slo) -> Tight:
    """The layout that exceeds the limits by the smallest factor."""
    return min(tight, key=lambda one: violation(one, slo)[0])


def reason(outlook: Outlook, question: Question) -> str:
    """Why a kind of hardware is out, in one line."""
    if outlook.fastest:
        return _too_slow(nearest(outlook.fastest, question.slo), question)
    if outlook.missing:
        return f"memory: {outlook.missing[0].message}"
    return "no layout divides the model evenly among devices that are joined."


def _too_slow(tight: Tight, question: Question) -> str:
    factor, name = violation(tight, question.slo)
    if factor <= 1:
        return "each limit can be met alone, but not all of them at any load."
    took, limit = getattr(tight, name), getattr(question.slo, name)
    return (
        f"{NAMES[name]}: {_ms(took)} with {in_words(tight.deployment)} and a single caller, "
        f"{_ms(took - limit)} above the limit; {_parts(tight, question.workload, name)}."
    )


def _parts(tight: Tight, workload: Workload, name: str) -> str:
    terms = prefill_terms_s(tight, workload) if name == "ttft_s" else decode_terms_s(tight, workload)
    each = sorted(terms.items(), key=lambda term: -term[1])
    per = "of it per token " if name == "e2e_s" else "of it "
    return per + ", ".join(f"{part} {_ms(took)}" for part, took in each if took > 0)


def refusal(found: Found, question: Question) -> RequestError:
    """That nothing serves the question: what is missing or which term forbids it, by how much, what comes nearest."""
    fitting = [tight for outlook in found.outlooks for tight in outlook.fastest]
    if not fitting:
        return _fits_nowhere(found, question)
    closest = nearest(fitting, question.slo)
    factor, name = violation(closest, question.slo)
    if factor <= 1:
        return RequestError(
            f"nothing on offer serves {question.architecture.name} within all limits at once.",
            hint="Loosen one of them, or allow more devices per replica with --max-devices.",
        )
    limit, took = getattr(question.slo, name), getattr(closest, name)
    message = (
        f"no hardware on offer gives {NAMES[name]} of {question.architecture.name} within {_ms(limit)}: "
        f"{'; '.join(_evidence(fitting, closest, question, name))}."
    )
    where = f"{in_words(closest.deployment)} on {closest.deployment.hardware.name}"
    return RequestError(
        message,
        hint=f"Nearest is {where}: allow {_ms(took * 1.05)}, a smaller model, a lower precision or faster hardware.",
        facts={"limit_s": limit, "nearest_s": took, "nearest": where, "bound": name},
    )


def _evidence(fitting: Sequence[Tight], closest: Tight, question: Question, name: str) -> Iterator[str]:
    limit = getattr(question.slo, name)
    same = [tight for tight in fitting if tight.deployment.hardware.name == closest.deployment.hardware.name]
    same = [tight for tight in same if tight.deployment.weights == closest.deployment.weights]
    alone = min(same, key=lambda tight: (tight.deployment.tensor, tight.deployment.devices))
    hardware = closest.deployment.hardware
    if name == "tpot_s" and alone.deployment.devices < closest.deployment.devices:
        needed, took = reading_s(alone)
        compared = ">" if took > limit else "of"
        yield (
            f"on {in_words(alone.deployment)}, reading {needed / 1e9:.3g} GB of weights at "
            f"{needed / took / 1e12:.3g} TB/s takes {_ms(took)} {compared} {_ms(limit)}"
        )
    took = getattr(closest, name)
    yield (
        f"at best, {hardware.name} with {in_words(closest.deployment)} takes {_ms(took)} for a single caller, "
        f"{_ms(took - limit)} too long, {_parts(closest, question.workload, name)}"
    )


def _fits_nowhere(found: Found, question: Question) -> RequestError:
    lacking = [outlook for outlook in found.outlooks if outlook.missing]
    if not lacking:
        return RequestError(
            f"no hardware on offer can be laid out for {question.architecture.name}.",
            hint="Name other hardware with --hardware.",
        )
    error = min((outlook.missing[0] for outlook in lacking), key=lack_bytes)
    return RequestError(
        f"{question.architecture.name} fits on nothing that is on offer; nearest: {error.message}",
        hint="Allow more devices with --max-devices, a lower --precision, or a shorter context.",
        facts=error.facts,
    )


def _ms(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
