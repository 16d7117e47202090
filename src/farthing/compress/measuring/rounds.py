"""Rounds: several models in turns, each in a process of its own, so that what disturbs one disturbs all."""

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from math import prod
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Final

import msgspec

from farthing.compress.measuring.machine import cores
from farthing.compress.measuring.measurement import (
    TOGETHER,
    Measurement,
    Ratio,
    Round,
    Said,
    percentile_ms,
    ratio,
)
from farthing.errors import ConfigError, Unavailable
from farthing.schema.artefact import MODEL, TOKENIZER

ROUND_TEXTS: Final = 2 * TOGETHER
"""Texts of a round: each alone and all in two batches."""

CHILD: Final = "farthing.compress.measuring.child"

FEWEST: Final = 3
MOST: Final = 25
"""Rounds: fewer have no spread, more add nothing."""


def measure(artefact: Path, texts: Sequence[str], *, threads: int = 1, seconds: float = 3.0) -> Measurement:
    """Measure one artefact's folder on texts of the lengths it will meet, for about so many seconds."""
    return measure_together([artefact], texts, threads=threads, seconds=seconds)[0]


def measure_together(
    artefacts: Sequence[Path], texts: Sequence[str], *, threads: int = 1, seconds: float = 3.0
) -> list[Measurement]:
    """Measure several artefacts' folders in turns; all of a round run the same texts.

    `threads` 0 is all cores; `seconds` is the time for each of them. Raises ConfigError when one cannot be loaded or
    there are no texts, Unavailable when its process ends before it is told to.
    """
    if not texts:
        raise ConfigError("There are no texts to measure with.", hint="Give some of the lengths that will be asked.")
    threads = threads or cores()
    with ExitStack() as stack:
        children = [stack.enter_context(_Child(folder, threads)) for folder in artefacts]
        on_all = children
        if threads != cores():
            on_all = [stack.enter_context(_Child(folder, cores())) for folder in artefacts]
        _in_turns([*children, *(on_all if on_all is not children else ())], texts, seconds * len(artefacts))
        return [
            _measurement(folder, threads, child, every, children[0])
            for folder, child, every in zip(artefacts, children, on_all, strict=True)
        ]


class _Child:
    """A process with one model in it, and the rounds it has run."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder = folder
        self._arguments = [sys.executable, "-P", "-m", CHILD, str(folder), str(threads)]
        self.rounds: list[Round] = []
        self.peak_rss_mb = 0.0

    def __enter__(self) -> "_Child":
        self._told = TemporaryFile()
        self._process = subprocess.Popen(  # noqa: S603 (this interpreter, and arguments that no shell reads)
            self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._told
        )
        try:
            self._heard()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._told.close()

    def run(self, texts: Sequence[str]) -> Round:
        """What one round took."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # what it said before it ended is told when its answer is missing
            self._process.stdin.write(msgspec.json.encode(list(texts)) + b"\n")
            self._process.stdin.flush()
        found = self._heard().round
        assert found is not None
        return found

    def _heard(self) -> Said:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._told.seek(0)
            last = self._told.read().decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise Unavailable(
                f"The process that measures {self._folder} ended with {code}: {last[0]}",
                hint="-9 means that memory ran out: close other programs, or measure a smaller model.",
            )
        said = msgspec.json.decode(line, type=Said)
        if said.error:
            raise ConfigError(said.error, hint=said.hint)
        self.peak_rss_mb = max(self.peak_rss_mb, said.peak_rss_mb)
        return said


def _in_turns(children: Sequence[_Child], texts: Sequence[str], seconds: float) -> None:
    """Rounds until the time is up; the first of each child warms it up and is not counted."""
    for child in children:
        child.run(_some(texts, 0))
    began = time.monotonic()
    for number in range(MOST):
        if number >= FEWEST and time.monotonic() - began >= seconds:
            return
        for child in children:
            child.rounds.append(child.run(_some(texts, number)))


def _some(texts: Sequence[str], number: int) -> list[str]:
    """The texts of a round: the next ones, from the beginning again where they end."""
    start = number * ROUND_TEXTS
    return [texts[place % len(texts)] for place in range(start, start + ROUND_TEXTS)]


def _measurement(folder: Path, threads: int, child: _Child, on_all: _Child, first: _Child) -> Measurement:
    rounds = child.rounds
    energies = [found.batch_joules / found.texts for found in on_all.rounds if found.batch_joules is not None]
    return Measurement(
        parameters=parameters(folder / MODEL),
        mb=sum((folder / name).stat().st_size for name in (MODEL, TOKENIZER)) / 1e6,
        peak_rss_mb=child.peak_rss_mb,
        threads=threads,
        cpu_ms_p50=percentile_ms(rounds, 50),
        cpu_ms_p95=percentile_ms(rounds, 95),
        wall_ms_p50=percentile_ms(rounds, 50, wall=True),
        wall_ms_p95=percentile_ms(rounds, 95, wall=True),
        tokenise_ms=1000 * median(found.tokenise_s / found.texts for found in rounds),
        texts_per_cpu_s=median(found.texts / found.batch_cpu_s for found in rounds),
        texts_per_s=median(found.texts / found.batch_wall_s for found in rounds),
        texts_per_s_all_threads=median(found.texts / found.batch_wall_s for found in on_all.rounds),
        tokens_per_s=median(found.tokens / found.batch_wall_s for found in rounds),
        joules_per_1k=1000 * median(energies) if energies else None,
        faster=_alone(first, child),
        faster_together=ratio([one.batch_cpu_s for one in first.rounds], [one.batch_cpu_s for one in rounds]),
        rounds=len(rounds),
    )


def _alone(first: _Child, child: _Child) -> Ratio:
    return ratio(*([percentile_ms([found], 50) for found in one.rounds] for one in (first, child)))


def parameters(file: Path) -> int:
    """How many numbers a graph has learned, in whatever precision it stores them; scales of them are not counted."""
    import onnx  # the measuring process imports this module too, and must not hold more than what serves

    count = 0
    for tensor in onnx.load_model(file).graph.initializer:
        kept = tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
        if kept and tensor.dims and not tensor.name.endswith(("scale", "_zero_point")):
            packed = 2 if tensor.name.endswith(".int4") else 1
            count += packed * prod(tensor.dims)
    return count
