"""Who is who in compression: a job to the run that makes an artefact of it."""

import os
from pathlib import Path

from farthing.compress.job import Job
from farthing.compress.pipeline import run
from farthing.compress.progress import Progress
from farthing.compress.record import Report
from farthing.config import resolve_secret


def run_job(job: Job, folder: Path, progress: Progress, anew: bool = False, until: str = "") -> Report:
    """Run a job whose paths are relative to `folder`; see `farthing.compress.pipeline.run`."""
    labeller = job.teacher.labeller
    key = resolve_secret(labeller.key, os.environ) if labeller else ""
    return run(job, folder, progress, anew=anew, until=until, key=key)
