"""Job files as steps of compression are given them, and what runs left."""

from pathlib import Path
from typing import TYPE_CHECKING

from farthing.compress.job import Job
from farthing.compress.parsing import parse_job
from farthing.errors import ConfigError

if TYPE_CHECKING:  # it needs numpy, and the help of a command does not
    from farthing.compress.record import Report

REPORT = "report.json"


def job_of(file: Path) -> Job:
    """The job in a file; raises ConfigError."""
    return parse_job(text_of(file), str(file))


def text_of(file: Path) -> str:
    """What a job file says; raises ConfigError."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text (byte {error.start}).", hint="Save it as UTF-8.") from None
    except OSError as error:
        hint = "`farthing compress init` writes a job file."
        raise ConfigError(f"{file} cannot be read: {error.strerror}.", hint=hint) from None


def report_of(folder: Path) -> "Report":
    """The report on what lies in a folder; raises ConfigError, or TrafficError when it cannot be understood."""
    from farthing.compress.record import decode

    file = folder / REPORT
    try:
        content = file.read_bytes()
    except OSError as error:
        hint = "Name the folder that `farthing compress run` wrote, the job's `out`."
        raise ConfigError(f"{file} cannot be read: {error.strerror}.", hint=hint) from None
    return decode(content, str(file))
