"""Rounding while training: a model learns to be right with the numbers it will have once it is quantized."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn
from torch.nn import functional


@contextmanager
def fake_quantized(model: nn.Module, *, reduced: bool = False, exceptions: Collection[str] = ()) -> Iterator[nn.Module]:
    """Within the block, the model's linear layers and embeddings compute with rounded numbers.

    Weights are rounded to 8 bits signed (7 if `reduced`) with a scale per output, embeddings with one per row, and what
    goes into linear layers to 8 bits unsigned over its range of that moment, as ONNX Runtime's dynamic quantization
    does. Gradients pass as if nothing were rounded (straight-through estimator: Bengio, Leonard, Courville 2013).
    `exceptions` are names of modules, as `named_modules` and the nodes of an exported graph have them. Parameters keep
    their names and full precision.
    """
    steps = 63 if reduced else 127
    changed: list[nn.Module] = []
    try:
        for name, module in model.named_modules():
            forward = _rounded_forward(name, module, steps)
            if forward is not None and not {name, f"{name}.weight"} & set(exceptions):
                # On the instance: nn.Module finds it before its class's, and no parameter changes its name.
                module.forward = forward
                changed.append(module)
        yield model
    finally:
        for module in changed:
            del module.forward


def rounded_weight(weight: Tensor, steps: int) -> Tensor:
    """A matrix, each row rounded to whole multiples of 1/steps of its largest number."""
    weight = weight.float()
    scale = weight.detach().abs().amax(1, keepdim=True).clamp_min(1e-12) / steps
    return _straight_through(weight, (weight / scale).round() * scale)


def rounded_activation(values: Tensor) -> Tensor:
    """Numbers in 256 steps over their range, which always includes zero."""
    values = values.float()
    low, high = values.detach().amin().clamp_max(0), values.detach().amax().clamp_min(0)
    scale = (high - low).clamp_min(1e-12) / 255
    zero = (-low / scale).round()
    return _straight_through(values, ((values / scale).round() + zero).clamp(0, 255).sub(zero) * scale)


def _rounded_forward(name: str, module: nn.Module, steps: int) -> Callable[[Tensor], Tensor] | None:
    if isinstance(module, nn.Linear):
        return partial(_projection, module) if name == "project" else partial(_linear, module, steps)
    if isinstance(module, nn.Embedding):
        return partial(_embedding, module)
    return None


def _linear(module: nn.Linear, steps: int, rows: Tensor) -> Tensor:
    return functional.linear(rounded_activation(rows), rounded_weight(module.weight, steps), module.bias)


def _projection(module: nn.Linear, rows: Tensor) -> Tensor:
    """That of embeddings is stored in 8 bits and folded into their table: its product is never rounded."""
    return functional.linear(rows, rounded_weight(module.weight.T, 127).T, module.bias)


def _embedding(module: nn.Embedding, ids: Tensor) -> Tensor:
    return functional.embedding(ids, rounded_weight(module.weight, 127), module.padding_idx)


def _straight_through(values: Tensor, rounded: Tensor) -> Tensor:
    return values + (rounded - values).detach()
