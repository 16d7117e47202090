"""Draw the frontier of cost and speed of some models on one kind of device as SVG, on standard output.

python -m benchmarks.frontier > docs/images/plan-frontier.svg
"""

import sys

from farthing.dashboard.plan_frontier import frontier_svg
from farthing.economics.scaling_laws import cost_speed_frontier, scaled_model
from farthing.wiring.planning import catalogue

HARDWARE, USD_PER_DEVICE_H, CONTEXT_TOKENS = "H100 SXM", 2.0, 2048.0
MODELS = {
    "Llama-3.1-8B, bf16": ("llama-3-8b", "bf16"),
    "Llama-3.1-70B, bf16": ("llama-3-70b", "bf16"),
    "Llama-3.1-405B, fp8": ("llama-3.1-405b", "fp8"),
    "DeepSeek-V3, fp8": ("deepseek-v3", "fp8"),
}


def main() -> None:
    """Compute and print."""
    facts = catalogue()
    hardware = facts.hardware_named(HARDWARE)
    series = {
        name: cost_speed_frontier(
            scaled_model(facts.architecture_named(model), hardware, weights), USD_PER_DEVICE_H, CONTEXT_TOKENS
        )
        for name, (model, weights) in MODELS.items()
    }
    sys.stdout.write(frontier_svg(series))


if __name__ == "__main__":
    main()
