"""The training loop: AdamW, averaged weights, the best epoch on held-out data, resumable between epochs."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from pickle import UnpicklingError  # torch.load's, for a damaged file
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from farthing.compress.progress import Progress
from farthing.errors import ConfigError, Unavailable

CLIP = 1.0
AVERAGED = 0.998
"""What of the average of the weights stays at each step: it reaches back some 500 steps."""
WARM_UP = 0.1
DECAY = 0.01


class Schedule(NamedTuple):
    """How long and how fast to train. `patience` is after how many epochs without a better one to stop."""

    epochs: int
    rate: float
    patience: int = 3


class Lesson(NamedTuple):
    """What a model is trained on: batches of an epoch by number, the loss of one, and how good the model is by now."""

    batches: Callable[[int], Sequence[Any]]
    loss: Callable[[Any], Tensor]
    score: Callable[[], float]


class Trained(NamedTuple):
    """How training went: the best score and its epoch (0: before any), and CPU seconds over all epochs."""

    score: float
    epoch: int
    cpu_s: float


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def lower_precision() -> AbstractContextManager[object]:
    """bfloat16 where the GPU or the processor multiplies it: nearly twice as fast with AVX-512 BF16; else nothing."""
    if torch.cuda.is_available():
        return torch.autocast("cuda", torch.bfloat16)
    return torch.autocast("cpu", torch.bfloat16) if _multiplies_bfloat16() else nullcontext()


@cache
def _multiplies_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def train(
    model: nn.Module,
    lesson: Lesson,
    schedule: Schedule,
    progress: Progress,
    resume: Path,
    extra: Sequence[nn.Module] = (),
) -> Trained:
    """Train a model in place, and leave it with its averaged weights as they were after the best epoch.

    Averages of weights along the way generalise better than where the way happens to end (Polyak and Juditsky 1992;
    Izmailov et al. 2018, arXiv:1803.05407), and their scores jump about less from epoch to epoch. `extra` are modules
    that only training needs. After each epoch all that is needed to go on is written to `resume`; a run that was killed
    continues there. Raises ConfigError when the loss is not a number any more, and Unavailable when memory runs out.
    """
    parts = nn.ModuleList([model, *extra])
    trained = [parameter for parameter in parts.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(_groups(parts), lr=schedule.rate, betas=(0.9, 0.98))
    steps = max(schedule.epochs * len(lesson.batches(0)), 1)
    warm = max(int(steps * WARM_UP), 1)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(steps - step, 0) / max(steps - warm, 1))
    )
    average = _Average(model)
    state = _State.begun(resume, parts, optimizer, decay, average) or _State(-1, lesson.score(), 0, _copied(model), 0.0)
    for epoch in range(state.done + 1, schedule.epochs):
        if epoch - state.best_epoch >= schedule.patience and state.best_epoch:
            break
        began = time.process_time()
        parts.train()
        batches = lesson.batches(epoch)
        for number, loss in enumerate(_losses(lesson, batches, epoch, schedule.rate), 1):
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, CLIP)
            optimizer.step()
            decay.step()
            average.note()
            progress.step(epoch * len(batches) + number, steps, epoch=epoch + 1, loss=float(loss.detach()))
        parts.eval()
        with average:
            score = lesson.score()
            reached = _copied(model)
        progress.step((epoch + 1) * len(batches), steps, epoch=epoch + 1, loss=float(loss.detach()), dev=score)
        cpu_s = state.cpu_s + time.process_time() - began
        better = score >= state.score  # of equals the later, which has settled more
        state = _State(
            epoch,
            score if better else state.score,
            epoch + 1 if better else state.best_epoch,
            reached if better else state.best,
            cpu_s,
        )
        state.write(resume, parts, optimizer, decay, average)
    parts.eval()
    model.load_state_dict(state.best)
    resume.unlink(missing_ok=True)
    return Trained(state.score, state.best_epoch, state.cpu_s)


def _losses(lesson: Lesson, batches: Iterable[Any], epoch: int, rate: float) -> Iterator[Tensor]:
    for number, batch in enumerate(batches, 1):
        try:
            with lower_precision():
                loss = lesson.loss(batch)
        except (MemoryError, RuntimeError) as error:
            if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
                raise
            raise Unavailable(
                f"Memory ran out in epoch {epoch + 1}, batch {number}: {str(error).partition(chr(10))[0]}",
                hint="Lower `batch` or `data.max_length` in the job; the run goes on from the last whole epoch.",
            ) from None
        if not torch.isfinite(loss):
            raise ConfigError(
                f"The loss is {float(loss.detach())} in epoch {epoch + 1}, batch {number}, at a rate of {rate:g}.",
                hint="Lower `rate`; the run goes on from the last whole epoch.",
            )
        yield loss


def _groups(parts: nn.Module) -> list[dict[str, object]]:
    """Weights decay; biases and what normalises do not."""
    weights = [one for one in parts.parameters() if one.requires_grad and one.ndim >= 2]
    others = [one for one in parts.parameters() if one.requires_grad and one.ndim < 2]
    return [{"params": weights, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]


class _Average:
    """The moving average of a model's trained weights; within a `with` block it stands in the model's place."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self.values = {name: one.detach().clone() for name, one in self._weights.items()}
        self.steps = 0

    @torch.no_grad()
    def note(self) -> None:
        """Take in the weights after one more step; the first ones are forgotten soon."""
        self.steps += 1
        left = min(AVERAGED, self.steps / (self.steps + 9))
        for name, weight in self._weights.items():
            self.values[name].lerp_(weight, 1.0 - left)

    def __enter__(self) -> None:
        self._exchange()

    def __exit__(self, *_: object) -> None:
        self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self._weights.items():
            kept = weight.detach().clone()
            weight.copy_(self.values[name])
            self.values[name] = kept


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


class _State(NamedTuple):
    """Where training is: the last whole epoch, and the best so far."""

    done: int
    score: float
    best_epoch: int
    best: dict[str, Tensor]
    cpu_s: float

    def write(
        self, path: Path, parts: nn.Module, optimizer: torch.optim.Optimizer, decay: Any, average: _Average
    ) -> None:
        content = {
            "state": self._asdict(),
            "average": average.values,
            "steps": average.steps,
            "parts": parts.state_dict(),
            "optimizer": optimizer.state_dict(),
            "decay": decay.state_dict(),
            "dice": torch.get_rng_state(),
        }
        partial = path.with_suffix(".partial")
        torch.save(content, partial)
        partial.replace(path)

    @classmethod
    def begun(
        cls, path: Path, parts: nn.Module, optimizer: torch.optim.Optimizer, decay: Any, average: _Average
    ) -> "_State | None":
        """What an earlier run left, or `None` when there is nothing that fits."""
        try:
            content = torch.load(path, map_location=device(), weights_only=True)
            parts.load_state_dict(content["parts"])
            optimizer.load_state_dict(content["optimizer"])
            decay.load_state_dict(content["decay"])
            average.values, average.steps = content["average"], content["steps"]
            torch.set_rng_state(content["dice"].cpu())
            return cls(**content["state"])
        except (OSError, RuntimeError, KeyError, ValueError, EOFError, UnpicklingError):
            return None
