"""Architecture: the shape of a model, as far as its memory and time depend on it."""

import msgspec


class LatentAttention(msgspec.Struct, frozen=True):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): ranks and head dimensions, in elements."""

    query_rank: int
    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int


class Architecture(msgspec.Struct, frozen=True):
    """A decoder-only transformer. Dimensions are in elements, counts in units.

    Of `layers`, `full_layers` attend to the whole context, `window_layers` to the last `window` tokens, and
    `linear_layers` keep a state of fixed size; the three sum to `layers`. `dense_layers` have a feed-forward network of
    `ffn` width, the others route each token to `top_k` of `experts` of width `expert_ffn`, beside one of `shared_ffn`.
    """

    name: str
    layers: int
    hidden: int
    query_heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    full_layers: int
    window_layers: int = 0
    window: int = 0
    linear_layers: int = 0
    experts: int = 0
    top_k: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    dense_layers: int = 0
    gated: bool = True
    tied_embeddings: bool = False
    latent: LatentAttention | None = None
    sparse_top_k: int = 0
    """How many tokens of the context a sparse attention reads (DeepSeek sparse attention); 0 for all of them."""
    source: str = ""
    aliases: tuple[str, ...] = ()
