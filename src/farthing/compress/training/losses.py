"""What a model is pulled by: the true targets, and what a teacher says and thinks."""

import torch
from torch import Tensor
from torch.nn import functional

from farthing.schema import Task

UNKNOWN = -1
"""The target of a text that nobody labelled."""

CONTRAST_TEMPERATURE = 0.05


def hard_loss(task: Task, output: Tensor, targets: Tensor) -> Tensor:
    """How far outputs are from the true targets, over those that are known.

    Targets are int64 [batch] (classification) or [batch, length] (tagging) with `UNKNOWN` where there is none, float
    [batch, labels] (multi-label) or [batch] (regression) with NaN where there is none. An embedding has none.
    """
    match task:
        case "classification" | "tagging":
            if not bool((targets != UNKNOWN).any()):
                return output.sum() * 0.0
            return functional.cross_entropy(output.flatten(0, -2), targets.flatten(), ignore_index=UNKNOWN)
        case "multi-label":
            known = ~targets.isnan().any(-1)
            loss = functional.binary_cross_entropy_with_logits(output[known], targets[known], reduction="sum")
            return loss / max(int(known.sum()) * output.shape[-1], 1)
        case "regression":
            known = ~targets.isnan()
            return functional.mse_loss(output[known, 0], targets[known], reduction="sum") / max(int(known.sum()), 1)
        case "embedding":
            return output.sum() * 0.0


def soft_loss(task: Task, output: Tensor, taught: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """How far outputs are from a teacher's, softened by a temperature (Hinton et al. 2015, arXiv:1503.02531)."""
    match task:
        case "classification":
            return _divergence(output, taught, temperature).mean()
        case "tagging":
            weights = mask.to(output.dtype)
            return (_divergence(output, taught, temperature) * weights).sum() / weights.sum()
        case "multi-label":
            softened = (taught / temperature).sigmoid()
            loss = functional.binary_cross_entropy_with_logits(output / temperature, softened)
            return loss * temperature**2
        case "regression":
            return functional.mse_loss(output, taught)
        case "embedding":
            if output.shape[-1] != taught.shape[-1]:
                return similarity_loss(output, taught)
            return 1.0 - functional.cosine_similarity(output, taught, dim=-1).mean() + similarity_loss(output, taught)


def _divergence(output: Tensor, taught: Tensor, temperature: float) -> Tensor:
    ours = (output / temperature).log_softmax(-1)
    theirs = (taught / temperature).log_softmax(-1)
    return functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1) * temperature**2


def similarity_loss(output: Tensor, taught: Tensor) -> Tensor:
    """How differently two models see which texts of a batch are alike: squared differences of cosines."""
    ours, theirs = functional.normalize(output, dim=-1), functional.normalize(taught, dim=-1)
    return functional.mse_loss(ours @ ours.T, theirs @ theirs.T)


def pooled_loss(pooled: Tensor, taught: Tensor) -> Tensor:
    """How far pooled texts are from a teacher's, in direction and in length; both [batch, width]."""
    apart = functional.mse_loss(pooled, taught) / taught.pow(2).mean().clamp_min(1e-6)
    return 1.0 - functional.cosine_similarity(pooled, taught, dim=-1).mean() + apart


def states_loss(states: Tensor, taught: Tensor, mask: Tensor) -> Tensor:
    """The mean squared difference of states [batch, length, width] over real tokens, relative to the teacher's."""
    weights = mask[:, :, None].to(states.dtype)
    apart = ((states - taught).pow(2) * weights).sum()
    return apart / (taught.pow(2) * weights).sum().clamp_min(1e-6)


def relations_loss(states: Tensor, taught: Tensor, mask: Tensor) -> Tensor:
    """How differently tokens relate to one another, whatever the widths (Wang et al. 2020, arXiv:2012.15828)."""
    hidden = (1.0 - mask[:, None, :].to(states.dtype)) * -10_000.0
    ours = ((states @ states.transpose(1, 2)) / states.shape[-1] ** 0.5 + hidden).log_softmax(-1)
    theirs = ((taught @ taught.transpose(1, 2)) / taught.shape[-1] ** 0.5 + hidden).log_softmax(-1)
    each = functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)
    weights = mask.to(states.dtype)
    return (each * weights).sum() / weights.sum()


def contrastive_loss(pooled: Tensor, taught: Tensor) -> Tensor:
    """How hard it is to tell which of a batch's teacher vectors belongs to which text (van den Oord 2018, InfoNCE)."""
    ours, theirs = functional.normalize(pooled, dim=-1), functional.normalize(taught, dim=-1)
    return functional.cross_entropy(
        ours @ theirs.T / CONTRAST_TEMPERATURE, torch.arange(len(ours), device=pooled.device)
    )
