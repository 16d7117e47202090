"""Jobs whose task is generation: a decoder made smaller, which is another line with a table of its own."""

import tomllib
from pathlib import Path

from farthing.cli.asking import Asked
from farthing.cli.compressing_needs import needing
from farthing.cli.compressing_progress import following
from farthing.cli.render import answer


def is_generative(text: str) -> bool:
    """Whether a job file is about a decoder; False too when it cannot be read, which another will say better."""
    try:
        return tomllib.loads(text).get("task") == "generation"
    except tomllib.TOMLDecodeError:
        return False


def run_decoder(asked: Asked, file: Path, text: str, anew: bool) -> None:
    """Run the job of a decoder, and show its table."""
    with needing("generate"):
        from farthing.compress.generative.reading import parse_generative
        from farthing.compress.generative.record import table
        from farthing.compress.generative.running import run_generative
    job = parse_generative(text, str(file))
    with following(asked) as progress:
        report = run_generative(job, file.parent, progress, anew=anew)
    answer(asked, "farthing.compress.generation/1", report, table)
