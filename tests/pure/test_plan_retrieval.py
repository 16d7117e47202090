"""Retrieval: what it adds is known before the first request."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from farthing.economics.money.api_price import ApiPrice
from farthing.economics.money.retrieval import Corpus, Index, Questions, retrieval_cost
from farthing.errors import RequestError

PRICE = ApiPrice(2.0, 10.0, 0.2)
CORPUS = Corpus(10_000, 2000, chunk_tokens=500, overlap_tokens=100, changed_per_month=0.1)
INDEX = Index(1536, usd_per_gib_month=6.0, replicas=2, usd_per_month=25.0)
QUESTIONS = Questions(100_000, 40, chunks=5, cached_share=0.3, usd_per_1k_reranked=1.0)


def cost(corpus=CORPUS, index=INDEX, questions=QUESTIONS, embedding=0.02, price=PRICE):
    return retrieval_cost(corpus, index, questions, embedding, price)


def test_every_part_is_that_of_its_formula():
    found = cost()
    assert found.chunks == 50_000  # 2000 tokens in steps of 400: the fifth begins at 1600
    assert found.embed_once_usd == pytest.approx(10_000 * (2000 + 4 * 100) * 0.02 / 1e6)
    assert found.embed_again_usd_per_month == pytest.approx(0.1 * found.embed_once_usd)
    assert found.index_bytes == 50_000 * (1536 * 4 + 128)
    assert found.index_usd_per_month == pytest.approx(25 + 2 * 6 * found.index_bytes / 2**30)
    assert found.queries_usd_per_month == pytest.approx(100_000 * (40 * 0.02 / 1e6 + 0.001))
    assert found.prompts_usd_per_month == pytest.approx(100_000 * (0.7 * 2500 * 2 + 0.3 * 2500 * 0.2) / 1e6)
    parts = (
        found.embed_again_usd_per_month
        + found.index_usd_per_month
        + found.queries_usd_per_month
        + found.prompts_usd_per_month
    )
    assert found.usd_per_month == pytest.approx(parts)
    assert found.usd_per_request == pytest.approx(parts / 100_000)


@given(st.integers(1, 5000), st.integers(1, 1000), st.floats(0, 0.9))
def test_chunks_cover_every_document_and_none_is_idle(tokens, chunk, overlap_share):
    overlap = math.floor(chunk * overlap_share)
    found = cost(corpus=Corpus(1, tokens, chunk, overlap))
    reached, chunks = chunk, 1
    while reached < tokens:
        reached += chunk - overlap
        chunks += 1
    assert found.chunks == chunks
    assert found.embed_once_usd == pytest.approx((tokens + (chunks - 1) * overlap) * 0.02 / 1e6)


@given(st.floats(0, 0.99), st.floats(0.001, 0.01))
def test_what_is_read_from_the_cache_costs_less(share, more):
    less = cost(questions=replace(QUESTIONS, cached_share=share))
    assert cost(questions=replace(QUESTIONS, cached_share=share + more)).usd_per_request < less.usd_per_request


def test_fixed_cost_is_spread_over_requests():
    few, many = (cost(questions=replace(QUESTIONS, requests_per_month=n)) for n in (1000, 1_000_000))
    assert few.usd_per_request > many.usd_per_request
    fixed = few.embed_again_usd_per_month + few.index_usd_per_month
    assert few.usd_per_request - many.usd_per_request == pytest.approx(fixed * (1 / 1000 - 1 / 1_000_000))


def test_a_flat_index_has_no_links():
    assert cost(index=replace(INDEX, links=0, bytes_per_dimension=1)).index_bytes == 50_000 * 1536


@pytest.mark.parametrize(
    "asked",
    [
        {"embedding": None}, {"embedding": -1}, {"price": ApiPrice(None, 10.0, 0.2)}, {"price": ApiPrice(2.0, 10.0)},
        {"index": replace(INDEX, usd_per_gib_month=None)}, {"index": replace(INDEX, dimensions=0)},
        {"index": replace(INDEX, replicas=0)}, {"corpus": replace(CORPUS, overlap_tokens=500)},
        {"corpus": replace(CORPUS, documents=0)}, {"corpus": replace(CORPUS, changed_per_month=-1)},
        {"questions": replace(QUESTIONS, requests_per_month=0)}, {"questions": replace(QUESTIONS, cached_share=1.1)},
        {"questions": replace(QUESTIONS, chunks=math.nan)},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(asked):
    with pytest.raises(RequestError) as refused:
        cost(**asked)
    assert refused.value.hint
