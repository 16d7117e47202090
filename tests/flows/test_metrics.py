"""Metrics: what Prometheus parses is what the ledger says, bounded in number and named by its conventions."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from farthing.exporters import prometheus
from farthing.exporters.prometheus import LABEL_VALUES, OTHER, Observed, Prometheus
from farthing.ledger.tally import Tally
from farthing.routing import Standing
from farthing.schema import Account, Balance, Entry, Limit, Usage

REFERENCE = Path(__file__).parents[2] / "docs/reference/metrics.md"
RULES = Path(prometheus.__file__).parent / "data/prometheus-rules.yaml"


def entry(number: int, **changes: object) -> Entry:
    fields = {
        "id": f"c{number}.1", "group": f"c{number}", "attempt": 1, "at": number, "endpoint": "chat", "model": "m",
        "provider": "openai", "upstream": "openai", "tenant": "acme", "usage": Usage(input=10, output=5),
        "usage_source": "provider", "cost": 1_500_000_000_000, "list_cost": 2_000_000_000_000,
        "saved": (("provider_cache", 500_000_000_000),), "cache": "miss", "status": 200, "latency": 400_000,
        "ttft": 100_000, "overhead": 300,
    }  # fmt: skip
    return Entry(**{**fields, **changes})


def observed(entries: Iterable[Entry], in_flight: int = 0, journal_lag: int = 0, ready: bool = True) -> Observed:
    tally = Tally()
    for one in entries:
        tally.add(one)
    return Observed(tuple(tally.rollups()), in_flight, journal_lag, ready, (ACCOUNT,), 3, RUNGS)


RUNGS = (Standing("intent", "student", 40, 5, True), Standing("intent", "student", 10, 1, False))
"""The same rung in two processes."""


def test_rungs_are_added_up_over_processes() -> None:
    shown = scrape(observed(ONE_OF_EACH))
    assert {name: values(shown[f"farthing_cascade_{name}"]) for name in ("audited", "disagreed", "stepped_aside")} == {
        "audited": {("intent", "student"): 50},
        "disagreed": {("intent", "student"): 6},
        "stepped_aside": {("intent", "student"): 1},
    }


ACCOUNT = Account(Limit("day", "usd", 3 * 10**12, per="key"), "ann", "day/...", 0, Balance(10**12, 5 * 10**11, 10**11))


def test_limits_are_shown_by_account_in_dollars() -> None:
    shown = scrape(observed(ONE_OF_EACH))
    assert {name: values(shown[f"farthing_limit_{name}"]) for name in ("allowed", "spent", "held")} == {
        "allowed": {("day", "usd", "ann"): 3.0},
        "spent": {("day", "usd", "ann"): 1.0},
        "held": {("day", "usd", "ann"): 0.6},
    }


def scrape(seen: Observed, exporter: Prometheus | None = None) -> dict[str, Metric]:
    text = (exporter or Prometheus("1.2.3", "policy")).render(seen).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(family: Metric, name: str = "") -> dict[tuple[str, ...], float]:
    """Values by label values, in the order of the label names."""
    samples = [sample for sample in family.samples if not name or sample.name == name]
    return {tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in samples}


ONE_OF_EACH = (
    entry(1),
    entry(2, id="c2.0", attempt=0, upstream="", provider="", cost=0, cache="hit", saved=(("exact_cache", 5),)),
    entry(3, status=500, error="server_error", usage=None, usage_source="none", cost=0, saved=()),
    entry(4, cost=None, usage=Usage(reasoning=7, web_search=2), usage_source="estimated", unknown_usage=("x", "y")),
)


def test_sums_are_those_of_the_ledger_in_base_units() -> None:
    metrics = scrape(observed(ONE_OF_EACH, in_flight=3, journal_lag=12, ready=False))
    cost = metrics["farthing_cost_usd"].samples
    assert sum(sample.value for sample in cost) == 1.5
    assert sum(sample.value for sample in metrics["farthing_list_cost_usd"].samples) == 8.0
    assert {sample.labels["lever"]: sample.value for sample in metrics["farthing_saved_usd"].samples} == {
        "provider_cache": 1.0, "exact_cache": 5e-12,
    }  # fmt: skip
    requests = {
        (s.labels["cache"], s.labels["outcome"]): s.value for s in metrics["farthing_requests"].samples if s.value
    }
    assert requests == {("miss", "ok"): 2, ("hit", "ok"): 1, ("miss", "error"): 1}
    tokens = {sample.labels["kind"]: sample.value for sample in metrics["farthing_tokens"].samples}
    assert tokens == {"input": 10, "output": 5, "reasoning": 7}
    assert {s.labels["kind"]: s.value for s in metrics["farthing_tool_uses"].samples} == {"web_search": 2}
    for name, value in (
        ("farthing_price_missing", 1),
        ("farthing_usage_estimated", 1),
        ("farthing_usage_unknown_fields", 2),
        ("farthing_attempts", 3),
        ("farthing_failed_attempts", 1),
        ("farthing_in_flight", 3),
        ("farthing_journal_lag_records", 12),
        ("farthing_ready", 0),
    ):
        assert sum(sample.value for sample in metrics[name].samples) == value, name
    (build,) = metrics["farthing_build_info"].samples
    assert (build.labels, build.value) == ({"version": "1.2.3", "policy": "policy"}, 1)


def test_a_model_without_a_missing_price_has_a_zero_to_rise_from() -> None:
    (sample,) = scrape(observed([entry(1)]))["farthing_price_missing"].samples
    assert (sample.labels["model"], sample.value) == ("m", 0)


def test_histograms_count_every_call_below_its_bound() -> None:
    latencies = [1, 900, 1_024, 5_000, 400_000, 999_999, 90_000_000, 500_000_000]
    metrics = scrape(observed(entry(n, latency=took, overhead=took) for n, took in enumerate(latencies)))
    for name in ("farthing_request_duration_seconds", "farthing_overhead_seconds"):
        family = metrics[name]
        buckets = [
            (float(sample.labels["le"]), sample.value) for sample in family.samples if sample.name.endswith("_bucket")
        ]
        assert buckets == sorted(buckets)
        for bound, count in buckets:
            assert count == sum(took / 1e6 < bound for took in latencies), (name, bound)
        assert sum(values(family, f"{name}_count").values()) == len(latencies)
        assert sum(values(family, f"{name}_sum").values()) == pytest.approx(sum(latencies) / 1e6)


def test_a_label_has_so_many_values_and_the_rest_are_other() -> None:
    crowd = [entry(n, model=f"model-{n}") for n in range(LABEL_VALUES + 100)]
    exporter = Prometheus("1", "p")
    cost = scrape(observed(crowd), exporter)["farthing_cost_usd"]
    shown = {sample.labels["model"]: sample.value for sample in cost.samples}
    assert len(shown) == LABEL_VALUES + 1
    assert shown[OTHER] == 100 * 1.5
    assert sum(shown.values()) == len(crowd) * 1.5
    again = scrape(observed([entry(n, model=f"model-{n}") for n in reversed(range(400))]), exporter)
    assert {sample.labels["model"] for sample in again["farthing_cost_usd"].samples} == set(shown)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "{le=}", "é漢", "x" * 5000])
def test_any_label_value_survives_the_format(name: str) -> None:
    (sample,) = scrape(observed([entry(1, model=name)]))["farthing_cost_usd"].samples
    assert sample.labels["model"] == name[: prometheus.LONGEST_VALUE]


def test_simulated_money_is_told_from_real_money() -> None:
    cost = scrape(observed([entry(1), entry(2, simulated=True, cost=10**12)]))["farthing_cost_usd"].samples
    assert {sample.labels["simulated"]: sample.value for sample in cost} == {"false": 1.5, "true": 1.0}


def test_counters_never_fall_as_entries_come() -> None:
    exporter = Prometheus("1", "p")
    before: dict[tuple[str, ...], float] = {}
    for count in range(1, len(ONE_OF_EACH) + 1):
        now = {}
        for family in scrape(observed(ONE_OF_EACH[:count]), exporter).values():
            if family.type == "counter":
                now |= {(family.name, *labels): value for labels, value in values(family).items()}
        assert all(now[key] >= value for key, value in before.items())
        before = now


def test_names_follow_the_conventions() -> None:
    for family in scrape(observed(ONE_OF_EACH)).values():
        assert re.fullmatch("farthing_[a-z_]+", family.name)
        assert not re.search("millis|micro|_ms$|_us$|pico|percent", family.name)
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert not {"key", "id", "group", "user"} & set(sample.labels)
            if family.type == "counter":
                assert sample.name.endswith("_total")
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of every metric in the reference, by name."""
    rows = re.findall(r"^\| `(farthing_\w+)` \| (\w+) \| (.*?) \|", REFERENCE.read_text(), re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_the_reference_describes_exactly_the_metrics_there_are() -> None:
    exposed = {}
    for family in scrape(observed(ONE_OF_EACH)).values():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        exposed[name] = (family.type, set().union(*(sample.labels for sample in family.samples)) - {"le"})
    assert documented() == exposed
    assert f"{LABEL_VALUES} values" in REFERENCE.read_text()


def test_the_alert_rules_ask_only_for_metrics_and_labels_that_exist() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    known = documented()
    recorded = {rule["record"] for rule in rules if "record" in rule}
    assert {rule["alert"] for rule in rules if "alert" in rule} >= {
        "FarthingCostPerRequestRising", "FarthingCacheHitRatioLow", "FarthingPriceMissing", "FarthingNotReady",
    }  # fmt: skip
    for rule in rules:
        expression = rule["expr"]
        assert expression.count("(") == expression.count(")")
        names = set(re.findall(r"farthing[\w:]*", expression)) - recorded
        assert names <= set(known), names
        for name, matchers in re.findall(r"(farthing_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r'(\w+)=~?"', matchers)) <= known[name][1]
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("info", "warning", "critical")
            assert {"summary", "description"} <= set(rule["annotations"])
