"""Architecture: the shape of a model, as far as its memory and time depend on it."""

import msgspec


class LatentAttention(msgspec.Struct, frozen=True):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): ranks and head dimensions, in elements."""

    query_rank: int
    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int


class LinearAttention(msgspec.Struct, frozen=True):
    """A layer that keeps a state of fixed size (gated delta rule, Mamba-2, lightning attention), in elements.

    Its state holds `key_dim * value_dim` elements per value head, and the last `convolution - 1` inputs of its
    convolution. In Mamba-2 words: `value_heads` are heads, `key_heads` groups, `key_dim` the state.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    convolution: int = 0
    state_bytes: int = 4
    """Bytes of an element of the state."""


class Indexer(msgspec.Struct, frozen=True):
    """What chooses the tokens that sparse attention reads (DeepSeek-V3.2): its heads, and their dimension."""

    heads: int
    dim: int


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
    linear: LinearAttention | None = None
    """Shape of the linear layers, where there are any."""
    expert_hidden: int = 0
    """Width that tokens are projected to before the experts and back after them; 0: they work in `hidden`."""
    ffn_layers: int = 0
    """How many layers have a feed-forward network, where not each of `layers` has exactly one; 0: all of them."""
    value_dim: int = 0
    """Dimension of a value head, where it is not `head_dim`; 0: it is."""
    window_kv_heads: int = 0
    window_head_dim: int = 0
    """KV heads and head dimension of the window layers, where they are not those of the full layers; 0: they are."""
    gated_attention: bool = False
    """Whether queries come with a gate of the same width (Qwen3-Next)."""
    shared_kv: bool = False
    """Whether full layers store one tensor that serves as keys and as values (Gemma 4)."""
    indexer: Indexer | None = None
    positions: int = 0
    """Learned position embeddings (GPT-2, OPT), in tokens."""
    other_parameters: int = 0
    """Parameters loaded beside the decoder, such as an image encoder."""
    native: str = "bf16"
    """The precision in which its maker publishes the weights."""
    parameters_b: float = 0.0
    """The published count of parameters, in 10^9; 0 where none is known."""
