"""Whether an architecture can exist: what its numbers must be to one another."""

from farthing.economics.architecture import Architecture

_POSITIVE = ("layers", "hidden", "query_heads", "kv_heads", "head_dim", "vocabulary")
_MOST = {"layers": 10_000, "hidden": 10**6, "query_heads": 10**5, "head_dim": 10**5, "vocabulary": 10**8}
"""Beyond these a number is no dimension of a model."""


def problem_of(architecture: Architecture) -> str:
    """What contradicts itself in an architecture, as the end of a sentence, or "" when nothing does."""
    for check in (_of_sizes, _of_heads, _of_layers, _of_experts):
        if problem := check(architecture):
            return problem
    return ""


def _of_sizes(a: Architecture) -> str:
    for name in a.__struct_fields__:
        value = getattr(a, name)
        if isinstance(value, int) and not isinstance(value, bool) and value < 0:
            return f"has {name} = {value}, below 0"
    for name in _POSITIVE:
        if not getattr(a, name):
            return f"has {name} = 0"
    for name, most in _MOST.items():
        if getattr(a, name) > most:
            return f"has {name} = {getattr(a, name)}, more than {most}"
    return ""


def _of_heads(a: Architecture) -> str:
    if a.latent is None and a.kv_heads > a.query_heads:
        return f"has more KV heads ({a.kv_heads}) than query heads ({a.query_heads})"
    if a.latent is None and a.query_heads % a.kv_heads:
        return f"has {a.query_heads} query heads, which {a.kv_heads} KV heads do not divide"
    if a.latent is not None and min(a.latent.kv_rank, a.latent.nope_dim, a.latent.value_dim) < 1:
        return "has a latent attention without rank or dimension"
    return ""


def _of_layers(a: Architecture) -> str:
    mixing = a.full_layers + a.window_layers + a.linear_layers
    if mixing != a.layers:
        return (
            f"has {a.full_layers} full, {a.window_layers} window and {a.linear_layers} linear layers, "
            f"which is {mixing} and not {a.layers}"
        )
    if a.window_layers and not a.window:
        return f"has {a.window_layers} window layers, but no window"
    if a.linear_layers and a.linear is None:
        return f"has {a.linear_layers} linear layers, but not their shape"
    if a.dense_layers > (a.ffn_layers or a.layers):
        return f"has {a.dense_layers} dense layers of {a.ffn_layers or a.layers}"
    if a.dense_layers and not a.ffn:
        return f"has {a.dense_layers} dense layers, but no ffn"
    return ""


def _of_experts(a: Architecture) -> str:
    routed = (a.ffn_layers or a.layers) - a.dense_layers
    if a.experts and not routed:
        return f"has {a.experts} experts, but no layer that routes to them"
    if not a.experts and routed:
        return f"has {routed} layers that are not dense, but no experts"
    if a.experts and not a.expert_ffn:
        return f"has {a.experts} experts of no expert_ffn"
    if a.top_k > a.experts or (a.experts and not a.top_k):
        return f"routes each token to {a.top_k} of {a.experts} experts"
    return ""
