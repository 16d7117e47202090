"""Print what the terms of the planner come to: clocks, limits of speed, speculation, disaggregation.

    python -m benchmarks.physics

The figures of docs/concepts/plan/{energy,scaling-laws,speculation}.md.
"""

import math
from collections.abc import Iterator

import numpy as np

from farthing.economics.deployment import Deployment, Workload
from farthing.economics.disaggregation import Asked, Pool, split, transfer_of
from farthing.economics.energy.clocks import GDDR_PJ_PER_BYTE, HBM_PJ_PER_BYTE, clocked, draw_of, phases_of, thriftiest
from farthing.economics.energy.power import activity_of
from farthing.economics.factors import Factors
from farthing.economics.facts.catalogue import Catalogue
from farthing.economics.memory import capacity, sequences_that_fit
from farthing.economics.scaling_laws import Scaled, cost_speed_frontier, exponent, fastest_token_s
from farthing.economics.serving import Load, decode_step_s
from farthing.economics.speculation import Drafter, best_drafts, break_even_batch, head, lookup, speculate
from farthing.economics.step import StepCosts
from farthing.economics.terms import demand, step_costs
from farthing.wiring.planning import catalogue, shipped_calibration
from farthing.wiring.power import power_model

CALIBRATION, POWER = shipped_calibration(), power_model()


def main() -> None:
    """Print each table."""
    facts = catalogue()
    for title, lines in (
        ("Clocks: decoding", _clocks(facts)),
        ("Exponents of the least time per token", _exponents()),
        ("Speculation: speed-up by batch, acceptance 0.75, context 1250", _drafts(facts)),
        ("Speculation: AWS Neuron's 19.8 -> 5.6 ms", _anchor(facts)),
        ("Disaggregation: 20 requests/s of Llama-3.1-70B on 4 x H100", _pools(facts)),
    ):
        print(title, *lines, sep="\n  ", end="\n\n")


def _costs(deployment: Deployment, load: Load) -> tuple[StepCosts, Factors]:
    workload = Workload(float(load.input_tokens), float(load.output_tokens), concurrency=float(load.concurrency))
    factors = CALIBRATION.factors(deployment, workload)
    return step_costs(demand(deployment), factors), factors


def _clocks(facts: Catalogue) -> Iterator[str]:
    for hardware, full_mhz, low_mhz, joule, model, batches in (
        ("RTX PRO 6000", 2842, 180, GDDR_PJ_PER_BYTE, "llama-3-8b", (1, 8)),
        ("RTX PRO 6000", 2842, 180, GDDR_PJ_PER_BYTE, "qwen3-32b", (1, 8)),
        ("A100 SXM 80GB", 1410, 1005, HBM_PJ_PER_BYTE, "llama-3-8b", (8, 64, 128)),
    ):
        for batch in batches:
            deployment = Deployment(facts.hardware_named(hardware), facts.architecture_named(model))
            load = Load(float(batch), 500.0, 500.0, math.inf)
            costs, _ = _costs(deployment, load)
            phases = phases_of(costs, load)
            activity = activity_of(deployment, load, decode_step_s(costs, load, load.concurrency), ())
            draw = draw_of(deployment.hardware, activity, POWER, joule)
            full, low = (clocked(phases, draw, share) for share in (1.0, low_mhz / full_mhz))
            best = thriftiest(phases, draw, 0.05, 1.06 * float(full.step_s))
            yield (
                f"{hardware} {model} batch {batch}: {full_mhz} -> {low_mhz} MHz "
                f"{low.step_s / full.step_s - 1:+.1%} time "
                f"{low.joule_per_step / full.joule_per_step - 1:+.0%} energy; best within 6 %: "
                f"{best.clock * full_mhz:.0f} MHz {best.joule_per_step / full.joule_per_step - 1:+.0%} energy"
            )


def _exponents() -> Iterator[str]:
    sizes, bandwidths = np.geomspace(1e9, 1e13, 41), np.geomspace(3e11, 3e13, 41)
    layers = 32 * (sizes / 8e9) ** (1 / 3)
    for name, launch_s in (("network alone", 0.0), ("with launches", 4e-6)):
        size = exponent(sizes, fastest_token_s(layers, 2 * sizes, np.full_like(sizes, 3.35e12), launch_s))
        of_70b = np.full_like(bandwidths, 80.0), np.full_like(bandwidths, 1.4e11)
        yield (
            f"simple form, {name}: size {size:.3f}, "
            f"bandwidth {exponent(bandwidths, fastest_token_s(*of_70b, bandwidths, launch_s)):.3f}"
        )
    sizes, bandwidths = np.geomspace(1e10, 1e13, 13), np.geomspace(1e12, 3e13, 9)
    by_size = np.array([_least_s(size, 3.35e12) for size in sizes])
    by_bandwidth = np.array([_least_s(7e10, bandwidth) for bandwidth in bandwidths])
    yield f"whole model: size {exponent(sizes, by_size):.3f}, bandwidth {exponent(bandwidths, by_bandwidth):.3f}"


def _least_s(parameters: float, bytes_per_s: float) -> float:
    side = (parameters / 8e9) ** (1 / 3)
    shape = Scaled(
        layers=round(32 * side), hidden=round(4096 * side), weights_bytes=2 * parameters, flop_per_token=2 * parameters,
        kv_bytes_per_token=0.0, memory_bytes=8.5e10, memory_bytes_per_s=bytes_per_s, flop_per_s=9.89e14,
        link_bytes_per_s=4.5e11, node_devices=8,
    )  # fmt: skip
    return 1 / cost_speed_frontier(shape, 2.0, 0.0)[0].tokens_per_s_per_user


def _drafts(facts: Catalogue) -> Iterator[str]:
    for model, weights, tensor in (("llama-3-70b", "bf16", 4), ("deepseek-v3", "fp8", 8)):
        deployment = Deployment(
            facts.hardware_named("H200"), facts.architecture_named(model), weights=weights, tensor=tensor
        )
        load = Load(1.0, 1000.0, 500.0, math.inf)
        costs, _ = _costs(deployment, load)
        drafter = head(costs, 0.027)
        for batch in (1.0, 8.0, 32.0, 64.0, 128.0, 256.0, 512.0):
            at = load._replace(concurrency=batch)
            found = speculate(costs, drafter, at, 0.75, np.array([1.0, 3.0, 5.0]))
            gains = ", ".join(f"{gain:.2f}" for gain in np.asarray(found.speed_up))
            best = best_drafts(costs, drafter, at, 0.75)
            yield f"{model} batch {batch:.0f}: 1, 3, 5 drafts {gains}; best {best.drafts:.0f}: {best.speed_up:.2f}"
        held = [break_even_batch(costs, drafter, load, 0.75, ahead) for ahead in (1, 3, 5)]
        found_in_prompt = [break_even_batch(costs, lookup(), load, 0.3, ahead) for ahead in (1, 3, 5)]
        yield f"{model} gains up to batch {held} with a head, {found_in_prompt} with n-grams at 0.3"


def _anchor(facts: Catalogue) -> Iterator[str]:
    load = Load(1.0, 1000.0, 400.0, math.inf)
    models = [
        Deployment(facts.hardware_named("Trainium2"), facts.architecture_named(name), tensor=16)
        for name in ("llama-3-70b", "llama-3.2-1b")
    ]
    target, draft = (_costs(deployment, load)[0] for deployment in models)
    plain = float(decode_step_s(target, load, 1.0))
    alone = float(decode_step_s(draft, load, 1.0))
    yield f"predicted without speculation {1e3 * plain:.1f} ms, a draft {1e3 * alone:.2f} ms"
    fused = draft._replace(host_s=0.0, host_sequence_s=0.0)
    for name, drafter in (
        ("draft launched by itself", Drafter(draft)),
        ("in one graph with the model", Drafter(fused)),
    ):
        best = [best_drafts(target, drafter, load, chance) for chance in (0.7, 0.8, 0.9)]
        told = ", ".join(f"{one.speed_up:.2f} ({one.drafts:.0f} drafts)" for one in best)
        yield f"{name}: speed-up at acceptance 0.7, 0.8, 0.9: {told}; published {19.8 / 5.6:.2f}"


def _pools(facts: Catalogue) -> Iterator[str]:
    deployment = Deployment(facts.hardware_named("H100"), facts.architecture_named("llama-3-70b"), tensor=4)
    for given, taken, tpot_ms in ((500, 500, 30), (4000, 500, 50), (4000, 500, 30), (4000, 500, 20), (16000, 300, 30)):
        load = Load(32.0, float(given), float(taken), math.inf)
        costs, factors = _costs(deployment, load)
        slots = min(sequences_that_fit(capacity(deployment), given + taken / 2), deployment.max_sequences)
        pool = Pool(costs, factors, deployment.tensor, slots)
        asked = Asked(given, taken, requests_per_s=20.0, tpot_s=tpot_ms / 1e3)
        found = split(pool, pool, pool, asked, transfer_of(deployment, given, 2e11))
        yield (
            f"{given} + {taken} tokens, {tpot_ms} ms per token: apart {found.devices:.0f} devices "
            f"({found.prefill_per_decode_device:.2f} prefill per decode, first token {found.ttft_s:.2f} s, of which "
            f"transfer {1e3 * found.transfer_s:.0f} ms), together {found.collocated_devices or math.inf:.0f} "
            f"(first token {found.collocated_ttft_s or math.inf:.2f} s)"
        )


if __name__ == "__main__":
    main()
