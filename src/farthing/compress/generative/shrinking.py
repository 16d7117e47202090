"""Shrinking a decoder: whole layers that change little, feed-forward channels and key-value heads that do little.

What comes out is a smaller dense model of the same architecture, with a config that says so.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from farthing.compress.generative.decoders import Model, layers_of, parameters_of
from farthing.compress.generative.job import Shrink
from farthing.compress.training.batches import Batch
from farthing.errors import ConfigError

STEPS = (128, 32)
"""Widths stay multiples of the first of these that is small against them: blocks of quantized weights are as long."""

_SMALL = 8

Floats = NDArray[np.float64]
Kept = Sequence[NDArray[np.int64]]
"""Indices that stay, for each layer."""


class Shrunk(NamedTuple):
    """A smaller decoder; which layers of the first were left out, and how many weights there were and are."""

    model: Model
    dropped: tuple[int, ...]
    before: int
    after: int


def shrink(model: Model, stage: Shrink, batches: Sequence[Batch]) -> Shrunk:
    """A smaller decoder, made as a job's stage says; what matters is measured on the batches.

    Layers go first, one at a time, measured anew after each. Raises ConfigError when the stage asks for more than there
    is.
    """
    before = parameters_of(model)
    _refuse_too_much(model, stage)
    left = list(range(len(layers_of(model))))
    for _ in range(stage.layers):
        weakest = int(np.argmin(block_influence(model, batches)))
        model = without_layers(model, (weakest,))
        left.pop(weakest)
    if stage.ffn < 1:
        model = with_channels(model, _largest(channel_sizes(model, batches), _channels(model, stage.ffn)))
    if 0 < stage.kv_heads < model.config.num_key_value_heads:
        model = with_heads(model, _largest(head_sizes(model, batches), stage.kv_heads))
    dropped = sorted(set(range(len(left) + stage.layers)) - set(left))
    return Shrunk(model, tuple(dropped), before, parameters_of(model))


def gentler(stage: Shrink, kv_heads: int) -> Shrink | None:
    """The same stage with less taken away from a model of so many key-value heads, or None when nothing is left of it.

    >>> gentler(Shrink(layers=6, ffn=0.5), 4)
    Shrink(layers=4, ffn=0.75, kv_heads=0, calibration=128)
    >>> gentler(Shrink(layers=1), 4) is None
    True
    """
    layers = stage.layers * 2 // 3
    ffn = 1.0 if stage.ffn > 0.9 else (1 + stage.ffn) / 2
    heads = stage.kv_heads and (stage.kv_heads + kv_heads + 1) // 2
    heads = 0 if heads >= kv_heads else heads
    if not layers and ffn == 1 and not heads:
        return None
    return Shrink(layers, ffn, heads, stage.calibration)


@torch.no_grad()
def block_influence(model: Model, batches: Iterable[Batch]) -> Floats:
    """How much each layer changes what goes through it: 1 - cosine of a token's state before and after, on average.

    X. Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", arXiv:2403.03853.
    """
    layers = layers_of(model)
    changed, tokens = np.zeros(len(layers)), 0

    def note(number: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any], output: Any) -> None:
            before = args[0] if args else named["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            cosine = functional.cosine_similarity(before.double(), after.double(), dim=-1)
            changed[number] += float((1 - cosine)[mask].sum())

        return hook

    with ExitStack() as hooks:
        for number, layer in enumerate(layers):
            hooks.callback(layer.register_forward_hook(note(number), with_kwargs=True).remove)
        for batch in batches:
            mask = batch.mask.bool()
            tokens += int(mask.sum())
            model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
    return changed / max(tokens, 1)


def channel_sizes(model: Model, batches: Iterable[Batch]) -> Floats:
    """How much each feed-forward channel adds: mean activation times the length of its output, [layers, channels]."""
    layers: list[Any] = layers_of(model)
    with _inputs([layer.mlp.down_proj for layer in layers]) as sums:
        tokens = _run(model, batches, sums)
    lengths = [layer.mlp.down_proj.weight.detach().double().norm(dim=0).cpu().numpy() for layer in layers]
    return np.stack([total / tokens * length for total, length in zip(sums.totals, lengths, strict=True)])


def head_sizes(model: Model, batches: Iterable[Batch]) -> Floats:
    """How much the query heads of each key-value head add, as for channels: [layers, key-value heads]."""
    layers: list[Any] = layers_of(model)
    with _inputs([layer.self_attn.o_proj for layer in layers]) as sums:
        tokens = _run(model, batches, sums)
    lengths = [layer.self_attn.o_proj.weight.detach().double().norm(dim=0).cpu().numpy() for layer in layers]
    heads = int(model.config.num_key_value_heads)
    return np.stack(
        [
            (total / tokens * length).reshape(heads, -1).sum(1)
            for total, length in zip(sums.totals, lengths, strict=True)
        ]
    )


def without_layers(model: Model, gone: Sequence[int]) -> Model:
    """The decoder without some of its layers; the model that is given stays as it is."""
    config = model.config
    kept = [number for number in range(config.num_hidden_layers) if number not in set(gone)]
    changes: dict[str, Any] = {"num_hidden_layers": len(kept)}
    if getattr(config, "layer_types", None):
        changes["layer_types"] = [config.layer_types[number] for number in kept]
    if getattr(config, "max_window_layers", None) is not None:
        changes["max_window_layers"] = sum(number < config.max_window_layers for number in kept)
    places = {old: new for new, old in enumerate(kept)}
    weights: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("model.layers."):
            number, _, rest = name.removeprefix("model.layers.").partition(".")
            if int(number) not in places:
                continue
            name = f"model.layers.{places[int(number)]}.{rest}"  # noqa: PLW2901
        weights[name] = tensor
    return _made(model, changes, weights)


def with_channels(model: Model, kept: Kept) -> Model:
    """The decoder with these feed-forward channels of each layer; the same number in all."""
    weights = dict(model.state_dict())
    for number, channels in enumerate(kept):
        chosen = torch.from_numpy(channels)
        _take(weights, f"model.layers.{number}.mlp", {"gate_proj": 0, "up_proj": 0, "down_proj": 1}, chosen)
    return _made(model, {"intermediate_size": len(kept[0])}, weights)


def with_heads(model: Model, kept: Kept) -> Model:
    """The decoder with these key-value heads of each layer, and the query heads that ask them; as many in all."""
    config = model.config
    size = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    group = config.num_attention_heads // config.num_key_value_heads
    weights = dict(model.state_dict())
    for number, heads in enumerate(kept):
        place = f"model.layers.{number}.self_attn"
        _take(weights, place, {"k_proj": 0, "v_proj": 0}, _spread(heads, size))
        _take(weights, place, {"q_proj": 0, "o_proj": 1}, _spread(heads, size * group))
    count = len(kept[0])
    changes = {"num_key_value_heads": count, "num_attention_heads": count * group, "head_dim": size}
    return _made(model, changes, weights)


def _refuse_too_much(model: Model, stage: Shrink) -> None:
    config = model.config
    if stage.layers >= config.num_hidden_layers:
        raise ConfigError(
            f"{stage.layers} layers are to go, and the decoder has {config.num_hidden_layers}.",
            hint=f"Give layers = {max(config.num_hidden_layers // 4, 1)} or so: how many are taken out.",
        )
    if stage.kv_heads > config.num_key_value_heads:
        raise ConfigError(
            f"{stage.kv_heads} key-value heads are to stay, and the decoder has {config.num_key_value_heads}.",
            hint="Give fewer, or 0 to keep all.",
        )


def _channels(model: Model, share: float) -> int:
    """So many channels as the share asks for, in whole steps."""
    width = int(model.config.intermediate_size)
    fitting = [step for step in STEPS if width % step == 0]
    step = next((step for step in fitting if width >= _SMALL * step), fitting[-1] if fitting else 1)
    return min(max(round(width * share / step), 1) * step, width)


def _largest(sizes: Floats, count: int) -> list[NDArray[np.int64]]:
    """Indices of the largest in each row, in ascending order."""
    return [np.sort(np.argsort(-row, kind="stable")[:count]).astype(np.int64) for row in sizes]


def _spread(units: NDArray[np.int64], size: int) -> Tensor:
    """Rows of units of `size` rows each."""
    return torch.from_numpy((units[:, None] * size + np.arange(size)).ravel())


def _take(weights: dict[str, Tensor], place: str, axes: Mapping[str, int], chosen: Tensor) -> None:
    """Keep chosen rows (axis 0, and of the bias) or columns (axis 1) of some projections."""
    for projection, axis in axes.items():
        name = f"{place}.{projection}.weight"
        weights[name] = weights[name].index_select(axis, chosen.to(weights[name].device))
        if axis == 0 and (bias := f"{place}.{projection}.bias") in weights:
            weights[bias] = weights[bias][chosen.to(weights[bias].device)]


def _made(model: Model, changes: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Model:
    """A decoder of the same class with another config and these weights."""
    config = copy.deepcopy(model.config)
    for name, value in changes.items():
        setattr(config, name, value)
    made = type(model)(config).to(next(model.parameters()).device)
    made.load_state_dict(weights)
    made.generation_config = copy.deepcopy(model.generation_config)
    return made.eval()


class _Sums:
    """Sums of absolute values that came into some linears, by channel."""

    def __init__(self, count: int) -> None:
        self.totals: list[Any] = [0.0] * count
        self.mask: Tensor | None = None


@contextmanager
def _inputs(linears: Sequence[nn.Module]) -> Iterator[_Sums]:
    sums = _Sums(len(linears))

    def note(number: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            assert sums.mask is not None
            sums.totals[number] = sums.totals[number] + args[0].double()[sums.mask].abs().sum(0).cpu().numpy()

        return hook

    with ExitStack() as hooks:
        for number, linear in enumerate(linears):
            hooks.callback(linear.register_forward_pre_hook(note(number)).remove)
        yield sums


@torch.no_grad()
def _run(model: Model, batches: Iterable[Batch], sums: _Sums) -> int:
    """Ask the model, and say how many tokens it read."""
    tokens = 0
    for batch in batches:
        sums.mask = batch.mask.bool()
        tokens += int(sums.mask.sum())
        model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
    return max(tokens, 1)
