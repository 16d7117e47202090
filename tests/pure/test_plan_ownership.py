"""Owning devices: the annuity pays the price back, and the parts are the whole."""

import csv
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from farthing.economics.money.ownership import Cluster, crossover, owned_cost
from farthing.errors import RequestError

FIGURES = Path(__file__).parents[2].parent / "shared" / "data" / "facts" / "tco_semianalysis.csv"
H100 = Cluster(
    devices=1024,
    capex_usd_per_device=30_000.0,
    life_years=5,
    kw_per_device=1.3,
    usd_per_kwh=0.08,
    network_storage_share=0.2,
    spare_share=0.02,
    residual_share=0.1,
    cost_of_capital=0.1,
    power_share=0.8,
    pue=1.25,
    colocation_usd_per_kw_month=120.0,
    staff_usd_per_year=400_000.0,
    support_share=0.02,
    utilisation=0.7,
)
clusters = st.builds(
    Cluster,
    devices=st.integers(1, 4096),
    capex_usd_per_device=st.floats(1000, 100_000),
    life_years=st.floats(0.5, 10),
    kw_per_device=st.floats(0.05, 3),
    usd_per_kwh=st.floats(0, 0.5),
    network_storage_share=st.floats(0, 0.5),
    spare_share=st.floats(0, 0.2),
    residual_share=st.floats(0, 0.5),
    cost_of_capital=st.floats(0, 0.3),
    power_share=st.floats(0.1, 1),
    pue=st.floats(1, 2),
    colocation_usd_per_kw_month=st.floats(0, 300),
    staff_usd_per_year=st.floats(0, 1e6),
    support_share=st.floats(0, 0.2),
    utilisation=st.floats(0.05, 1),
)


def price_of(cluster):
    return (
        cluster.devices * cluster.capex_usd_per_device * (1 + cluster.network_storage_share) * (1 + cluster.spare_share)
    )


@given(clusters, st.integers(1, 10), st.floats(0.001, 0.3))
def test_the_annuity_pays_the_price_back_with_interest(cluster, years, rate):
    cluster = replace(cluster, life_years=years, cost_of_capital=rate)
    payment = owned_cost(cluster).capital_usd_per_h * cluster.devices * 8760
    price = price_of(cluster)
    owed = price
    for _ in range(years):
        owed = owed * (1 + rate) - payment
    assert owed == pytest.approx(price * cluster.residual_share, abs=1e-6 * price * (1 + rate) ** years)


@given(clusters)
def test_without_interest_the_years_sum_to_the_hours(cluster):
    cost = owned_cost(replace(cluster, cost_of_capital=0.0))
    hours = cluster.devices * 8760 * cluster.life_years
    assert cost.years[-1].cumulative_usd == pytest.approx(cost.usd_per_device_h * hours)
    assert cost.years[-1].year == cluster.life_years
    left = price_of(cluster) * cluster.residual_share
    assert cost.years[-1].book_value_usd == pytest.approx(left, abs=1e-9 * price_of(cluster))
    assert cost.years[0].cumulative_usd == pytest.approx(price_of(cluster))


@given(clusters, st.floats(0.001, 0.3))
def test_interest_makes_it_dearer_and_use_makes_it_cheaper(cluster, rate):
    free = owned_cost(replace(cluster, cost_of_capital=0.0))
    assert owned_cost(replace(cluster, cost_of_capital=rate)).usd_per_device_h > free.usd_per_device_h
    idle = owned_cost(replace(cluster, cost_of_capital=0.0, utilisation=cluster.utilisation / 2))
    assert idle.usd_per_used_device_h == pytest.approx(2 * free.usd_per_used_device_h)
    assert idle.usd_per_1m_tokens(1000) == pytest.approx(2 * free.usd_per_1m_tokens(1000))


def test_the_parts_are_those_of_the_formula():
    cost = owned_cost(H100)
    assert cost.energy_usd_per_h == pytest.approx(1.3 * 0.8 * 1.25 * 0.08)
    assert cost.colocation_usd_per_h == pytest.approx(1.3 * 120 / 730)
    assert cost.staff_usd_per_h == pytest.approx(400_000 / 1024 / 8760)
    assert cost.support_usd_per_h == pytest.approx(30_000 * 1.2 * 1.02 * 0.02 / 8760)
    assert cost.usd_per_1m_tokens(2500) == pytest.approx(1e6 * cost.usd_per_used_device_h / 3600 / 2500)


@given(clusters, st.floats(0.05, 20), st.floats(0.05, 1))
def test_the_crossover_is_the_first_month_in_which_owning_has_cost_less(cluster, hourly, share):
    found = crossover(cluster, hourly, share)
    own = owned_cost(cluster)
    monthly = cluster.devices * 730

    def ahead(months):
        """What renting has cost more so far, in dollars of today."""
        discounted = sum((1 + cluster.cost_of_capital) ** (-month / 12) for month in range(1, months + 1))
        return monthly * (hourly * share - own.running_usd_per_h) * discounted - price_of(cluster)

    slack = 1e-9 * (price_of(cluster) + found.owned_usd + found.rented_usd)
    if found.month is None:
        assert found.why_never
        assert ahead(math.floor(cluster.life_years * 12)) <= slack
    else:
        assert not found.why_never
        assert ahead(found.month) >= -slack
        assert ahead(found.month - 1) <= slack


def test_why_owning_never_wins_is_said():
    assert "running costs alone" in crossover(H100, 0.2).why_never
    assert "do not pay" in crossover(H100, 0.9).why_never
    assert crossover(H100, 6.88).month == 9


def test_letting_rented_devices_go_when_idle_delays_the_crossover():
    months = [crossover(H100, 3.5, share).month for share in (1.0, 0.8, 0.6)]
    assert months == sorted(months)
    assert months[0] < months[-1]


@pytest.mark.parametrize(
    "change",
    [
        {"devices": 0}, {"capex_usd_per_device": None}, {"capex_usd_per_device": -1}, {"life_years": 0},
        {"life_years": 100}, {"pue": 0.9}, {"pue": math.nan}, {"residual_share": 1.2}, {"cost_of_capital": -0.1},
        {"utilisation": 0}, {"usd_per_kwh": -0.1}, {"kw_per_device": 0}, {"staff_usd_per_year": math.inf},
    ],
)  # fmt: skip
def test_a_cluster_that_makes_no_sense_is_refused(change):
    for ask in (owned_cost, lambda cluster: crossover(cluster, 3.0)):
        with pytest.raises(RequestError) as refused:
            ask(replace(H100, **change))
        assert refused.value.hint


@pytest.mark.parametrize(("hourly", "share"), [(None, 1), (0, 1), (-1, 1), (3, 0), (3, 1.5), (math.nan, 1)])
def test_rent_that_is_none_is_refused(hourly, share):
    with pytest.raises(RequestError):
        crossover(H100, hourly, share)


@pytest.mark.skipif(not FIGURES.exists(), reason="needs shared/data/facts/tco_semianalysis.csv beside the checkout")
def test_published_costs_of_ownership_are_explained_by_one_set_of_assumptions():
    """The price that each published figure implies is near what such a device is sold at, and they rank alike."""
    running = Cluster(
        1, 1.0, life_years=5, kw_per_device=1.0, usd_per_kwh=0.0, colocation_usd_per_kw_month=130.0,
        cost_of_capital=0.10,
    )  # fmt: skip
    implied = {}
    with FIGURES.open() as lines:
        for row in csv.DictReader(lines):
            powered = replace(running, kw_per_device=float(row["all_in_kW_per_gpu"]))
            cost = owned_cost(powered)
            left = float(row["tco_usd_gpu_h_neocloud_own"]) - cost.running_usd_per_h
            price = left / cost.capital_usd_per_h
            again = owned_cost(replace(powered, capex_usd_per_device=price))
            assert again.usd_per_device_h == pytest.approx(float(row["tco_usd_gpu_h_neocloud_own"]))
            implied[row["gpu"]] = price
    assert 30_000 < implied["h100"] < 55_000
    assert implied["mi300x"] < implied["h100"] < implied["h200"] < implied["b200"] < implied["b300"]
