"""What retrieval-augmented generation adds to the bill: embedding, an index in memory, and longer prompts."""

import math

import msgspec

from farthing.economics.money.api_price import ApiPrice, Tokens, api_usd, checked
from farthing.economics.money.plausible import number, require
from farthing.errors import RequestError

LINK_BYTES = 4


class Corpus(msgspec.Struct, frozen=True):
    """What is searched: documents cut into chunks of tokens that overlap, and how much of it changes in a month."""

    documents: float
    tokens_per_document: float
    chunk_tokens: float
    overlap_tokens: float = 0.0
    changed_per_month: float = 0.0
    """The share of the corpus that is embedded anew."""


class Index(msgspec.Struct, frozen=True):
    """Where vectors are kept: their size, the links of a navigable graph (HNSW's M; 0 for a flat index), the hosting.

    Each of `replicas` keeps the whole index in memory. `usd_per_month` is paid whatever its size.
    """

    dimensions: int
    bytes_per_dimension: float = 4.0
    links: int = 16
    usd_per_gib_month: float | None = None
    replicas: int = 1
    usd_per_month: float = 0.0


class Questions(msgspec.Struct, frozen=True):
    """Requests that retrieve: how many, how long the query is, and how many chunks go into the prompt.

    `cached_share` of the chunks' tokens is read from the provider's cache: whatever is put first and comes again.
    `usd_per_1k_reranked` is what reranking the candidates of a thousand queries costs.
    """

    requests_per_month: float
    query_tokens: float
    chunks: float
    cached_share: float = 0.0
    usd_per_1k_reranked: float = 0.0


class RetrievalCost(msgspec.Struct, frozen=True):
    """Dollars that retrieval adds: once, per month by part, and per request; and what makes them up.

    The dollars per request are those of a month over its requests, so the fixed part of them falls with traffic.
    """

    chunks: float
    index_bytes: float
    prompt_tokens_per_request: float
    embed_once_usd: float
    embed_again_usd_per_month: float
    index_usd_per_month: float
    queries_usd_per_month: float
    prompts_usd_per_month: float
    requests_per_month: float

    @property
    def usd_per_month(self) -> float:
        """All parts that come again every month."""
        per_request = self.queries_usd_per_month + self.prompts_usd_per_month
        return self.embed_again_usd_per_month + self.index_usd_per_month + per_request

    @property
    def usd_per_request(self) -> float:
        """A month's dollars over its requests."""
        return self.usd_per_month / self.requests_per_month


def retrieval_cost(
    corpus: Corpus, index: Index, questions: Questions, usd_per_1m_embedding: float | None, price: ApiPrice
) -> RetrievalCost:
    """What retrieval adds to the cost of a model at `price`. Raises RequestError.

    A document of t tokens has ceil((t - overlap) / (chunk - overlap)) chunks. A vector takes dimensions x bytes, and
    8 x M bytes for its links in HNSW's lowest layer (Faiss, "Guidelines to choose an index").

    >>> cost = retrieval_cost(
    ...     Corpus(1000, 1000, chunk_tokens=500), Index(1024, usd_per_gib_month=5.0), Questions(10_000, 50, chunks=4),
    ...     usd_per_1m_embedding=0.02, price=ApiPrice(2.0, 10.0),
    ... )
    >>> cost.chunks, cost.index_bytes, cost.embed_once_usd, round(cost.prompts_usd_per_month, 6)
    (2000.0, 8448000.0, 0.02, 40.0)
    """
    _check(corpus, index, questions)
    embedding = number("the embedding", "usd_per_1m_embedding", usd_per_1m_embedding)
    if embedding < 0:
        raise RequestError(f"Embedding costs ${embedding:g} per million tokens.", hint="Give 0 or more.")
    step = corpus.chunk_tokens - corpus.overlap_tokens
    each = max(1, math.ceil((corpus.tokens_per_document - corpus.overlap_tokens) / step - 1e-9))
    chunks = float(corpus.documents * each)
    embedded = corpus.documents * (corpus.tokens_per_document + (each - 1) * corpus.overlap_tokens)
    size = chunks * (index.dimensions * index.bytes_per_dimension + 2 * LINK_BYTES * index.links)
    hosting = number("the index", "usd_per_gib_month", index.usd_per_gib_month)
    once = embedded * embedding / 1e6
    prompt = questions.chunks * min(corpus.chunk_tokens, corpus.tokens_per_document)
    cached = prompt * questions.cached_share
    per_query = questions.query_tokens * embedding / 1e6 + questions.usd_per_1k_reranked / 1000
    per_prompt = api_usd(checked(price), Tokens(input=prompt - cached, cache_read=cached))
    return RetrievalCost(
        chunks=chunks,
        index_bytes=size,
        prompt_tokens_per_request=prompt,
        embed_once_usd=once,
        embed_again_usd_per_month=once * corpus.changed_per_month,
        index_usd_per_month=index.usd_per_month + index.replicas * size / 2**30 * hosting,
        queries_usd_per_month=questions.requests_per_month * per_query,
        prompts_usd_per_month=questions.requests_per_month * per_prompt,
        requests_per_month=questions.requests_per_month,
    )


def _check(corpus: Corpus, index: Index, questions: Questions) -> None:
    require(corpus, above_zero=("documents", "tokens_per_document", "chunk_tokens"))
    require(corpus, at_least_zero=("overlap_tokens", "changed_per_month"))
    require(index, above_zero=("bytes_per_dimension",), counts=("dimensions", "replicas"), whole=("links",))
    require(index, at_least_zero=("usd_per_gib_month", "usd_per_month"))
    require(questions, above_zero=("requests_per_month",), shares=("cached_share",))
    require(questions, at_least_zero=("query_tokens", "chunks", "usd_per_1k_reranked"))
    if corpus.overlap_tokens >= corpus.chunk_tokens:
        raise RequestError(
            f"Chunks of {corpus.chunk_tokens:g} tokens overlap by {corpus.overlap_tokens:g}.",
            hint="The overlap must be shorter than the chunk.",
        )
