"""Spreading: work of which no part waits for another, one after the other here or at once on the machines of Ray."""

import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Protocol, TypeVar

import torch

from farthing.compress.job import Distil, Prune
from farthing.compress.networks.encoder import Encoder
from farthing.compress.networks.keeping import Kept
from farthing.compress.networks.loading import Pretrained
from farthing.compress.stages.distil import distil
from farthing.compress.stages.learning import Instructor
from farthing.compress.stages.prune import prune
from farthing.compress.stages.setting import Setting
from farthing.compress.stages.teach import member
from farthing.compress.training.loop import Trained, device
from farthing.errors import ConfigError, Unavailable

Result = TypeVar("Result")

NEEDED: Final = "pip install 'farthing[ray]'"
ANSWER_S: Final = 5.0
"""How long a cluster may take to answer."""

NOT_IMPORTED: Final = "failed to import on the worker"
"""What Ray says when a worker has not the packages that are here."""

EVERYWHERE: Final = "Install 'farthing[compress,ray]' of this version on every machine of the cluster."


class Team(Protocol):
    """Whoever calls a function several times, in an order of their own."""

    @property
    def away(self) -> bool:
        """Whether the function runs in other processes, to which arguments are sent."""
        ...

    def share(self, thing: object) -> Any:
        """What stands for a thing among the arguments of several calls, so that it is sent once."""
        ...

    def each(self, do: Callable[..., Result], calls: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Result]]:
        """The results of a function called with each of some arguments, by number, each as soon as it is there."""
        ...


def team(engine: Literal["local", "ray"]) -> AbstractContextManager[Team]:
    """Those who work for an engine; raises ConfigError when Ray is asked for and not installed."""
    return Ray() if engine == "ray" else Alone()


class Alone:
    """One call after the other, here."""

    away = False

    def __enter__(self) -> "Alone":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing is left over."""

    def share(self, thing: object) -> Any:
        return thing

    def each(self, do: Callable[..., Result], calls: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Result]]:
        for number, arguments in enumerate(calls):
            yield number, do(*arguments)


class Ray:
    """Each call is a task of Ray: on its cluster where there is one, else on the cores of this machine.

    A task takes one core, and one GPU where any machine of the cluster has one. Tasks of workers that die are tried
    again by Ray, three times.
    """

    away = True

    def __init__(self) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError("The engine ray is asked for, and Ray is not installed.", hint=NEEDED) from None
        self._ray: Any = ray
        self._ours = False
        self._pending: dict[Any, int] = {}

    def __enter__(self) -> "Ray":
        if not self._ray.is_initialized():
            _refuse_silent(os.environ.get("RAY_ADDRESS", ""))
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told what runs here
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
            try:
                self._ray.init(address="auto", **quiet)
            except ConnectionError:
                self._ray.init(include_dashboard=False, **quiet)
            self._ours = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for reference in self._pending:
            self._ray.cancel(reference, force=True)
        self._pending.clear()
        if self._ours:
            self._ray.shutdown()

    def share(self, thing: object) -> Any:
        return self._ray.put(thing)

    def each(self, do: Callable[..., Result], calls: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Result]]:
        gpus = 1 if self._ray.cluster_resources().get("GPU") else 0
        remote = self._ray.remote(num_cpus=1, num_gpus=gpus)(do)
        self._pending = {remote.remote(*arguments): number for number, arguments in enumerate(calls)}
        while self._pending:
            (ready, *_), _ = self._ray.wait(list(self._pending), num_returns=1)
            yield self._pending.pop(ready), self._fetched(ready)

    def _fetched(self, reference: Any) -> Any:
        """The result of a task that has ended; what it raised is raised here."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            said = str(error.cause)
            if isinstance(error.cause, ModuleNotFoundError) or NOT_IMPORTED in said:
                raise ConfigError(
                    f"A worker of Ray cannot begin: {said.strip().splitlines()[-1]}.", hint=EVERYWHERE
                ) from None
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            first = str(error).strip().partition("\n")[0]
            raise Unavailable(
                f"A worker of Ray was lost: {first}",
                hint="Run the same command again: it goes on with the trials that were not finished.",
            ) from None


def _refuse_silent(address: str) -> None:
    """Raises Unavailable when nothing listens at the address of a cluster, which Ray would wait for without end."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), ANSWER_S).close()
    except OSError as error:
        raise Unavailable(
            f"The cluster of Ray at {address} does not answer: {error}.",
            hint="Start it, or take RAY_ADDRESS out of the environment to use this machine alone.",
        ) from None


def learned(
    setting: Setting, instructor: Instructor, start: Pretrained, stage: Distil | Prune, resume: Path
) -> tuple[Kept, float]:
    """The student that a stage makes of a model, on the CPU, and the seconds of CPU it took.

    `resume` is where an interrupted lesson goes on, if its folder is on this machine. `start` stays as it is.
    """
    instructor.model.to(device())
    model = deepcopy(start.model).to(device())
    with _here(resume) as place:
        if isinstance(stage, Distil):
            student, trained = distil(setting, stage, start._replace(model=model), instructor, place)
        else:
            assert isinstance(model, Encoder)
            student, trained = prune(setting, stage, Kept(model, start.tokenizer, start.padding), instructor, place)
    student.encoder.cpu()
    return student, trained.cpu_s


def taught_member(
    setting: Setting, where: Path | None, number: int, resume: Path
) -> tuple[dict[str, torch.Tensor], Trained]:
    """The weights of one member of a teacher, made of the model in the folder `where`, and how its training went."""
    with _here(resume) as place:
        return member(setting, where, number, place)


@contextmanager
def _here(resume: Path) -> Iterator[Path]:
    """The place itself if its folder is on this machine, else one that is gone when the block ends."""
    with tempfile.TemporaryDirectory() as own:
        yield resume if resume.parent.is_dir() else Path(own) / resume.name
