"""A report with something in every part of it."""

from farthing.dashboard.plan_views import BreakEven, Choice, Exclusion, Fact, Line, Point, Report, Swing
from farthing.economics.prediction import Estimate

HARDWARE = ("H100 SXM", "H200", "B200", "MI300X", "A100 80GB", "L40S", "RTX PRO 6000", "L4")


def around(value: float, spread: float = 0.2) -> Estimate:
    return Estimate(value, value * (1 - spread), value * (1 + spread))


def choice(number: int, hardware: str) -> Choice:
    return Choice(
        hardware=hardware,
        setup="fp8 weights, bf16 KV, TP2, batch 128",
        replicas=2 + number,
        devices=4 + 2 * number,
        usd_per_h=11.8 + 3 * number,
        usd_per_million=around(0.41 + 0.13 * number, 0.15 + 0.03 * number),
        ttft_s=around(0.31 + 0.1 * number),
        tpot_s=around(0.0182 + 0.002 * number),
        utilisation=0.71,
        price="on demand, Nebius",
        extrapolated=("time per output token of this hardware",) if number == 3 else (),
    )


def rising(name: str, base: float) -> Line:
    return Line(name, tuple((step * 1.5, around(base * (1 + step**2 / 40))) for step in range(1, 9)))


def sample() -> Report:
    points = [
        Point(hardware, f"{hardware}, TP{2**step}", 0.41 * (1 + 0.4 * number) * 1.6**step, 0.05 / 1.5**step, "other")
        for number, hardware in enumerate(HARDWARE)
        for step in range(-2, 4)
    ]
    front = [
        Point("H100 SXM", f"TP{2**step}", 0.4 * 1.55**step, 0.048 / 1.5**step, "frontier") for step in range(-2, 4)
    ]
    daily = tuple((10.0**power, power) for power in range(5, 11))
    api = tuple((tokens, Estimate(tokens * 2e-6, tokens * 2e-6, tokens * 2e-6)) for tokens, _ in daily)
    own = tuple((tokens, around(140 + tokens * 2e-7, 0.1)) for tokens, _ in daily)
    return Report(
        title="meta-llama/Llama-3.3-70B-Instruct",
        answer="4 H100 SXM in 2 replicas (fp8, TP2, batch 128) serve 12 requests/s for $11.80 an hour: $0.41 per 1M "
        "output tokens, between $0.35 and $0.47, with 18.2 ms per token at p90 of the 25 ms allowed.",
        asked=(
            ("model", "<b>Llama</b>"),
            ("prompt", "1,000 tokens"),
            ("answer", "400 tokens"),
            ("load", "12 requests/s"),
        ),
        choices=tuple(choice(number, hardware) for number, hardware in enumerate(HARDWARE[:6])),
        excluded=(
            Exclusion(
                "L4", "memory: the weights take 70.6 GB of fp8 on one device, 47.1 GB more than the 23.5 GB there are"
            ),
            Exclusion("RTX PRO 6000", "no price is known; add one with --facts"),
        ),
        points=(*points, *front, Point("H100 SXM", "TP2", 0.41, 0.0182, "best")),
        parts=(
            ("weights", 0.16),
            ("KV cache", 0.05),
            ("compute", 0.06),
            ("link", 0.03),
            ("host", 0.02),
            ("idle", 0.09),
        ),
        load_ttft=rising("requests per second", 0.2),
        load_tpot=rising("requests per second", 0.012),
        load_planned=7.5,
        swings=(
            Swing("price of the hardware", "20 % less to 20 % more", 0.33, 0.49),
            Swing("output tokens", "300 to 500", 0.46, 0.37),
            Swing("efficiency", "either end of its interval", 0.35, 0.47),
        ),
        facts=(Fact("price of H100 SXM", "$2.95/h", "nebius.com", "2026-10-01"),),
        percentile=90,
        ttft_limit_s=0.5,
        tpot_limit_s=0.025,
        break_even=BreakEven(
            (Line("API", api), Line("own machines", own)), 7.8e7, "They meet at 77.8 M output tokens a day"
        ),
        notices=("Extrapolated: no measurement of this model on this hardware.",),
        commands=(
            ("vLLM", "vllm serve meta-llama/Llama-3.3-70B-Instruct --tensor-parallel-size 2 --max-num-seqs 128"),
        ),
        date="2026-11-21",
    )
