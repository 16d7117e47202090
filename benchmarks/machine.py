"""What the figures were measured on, printed above them because they mean nothing without it."""

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.process import ROOT

LIBRARIES = ("uvloop", "httptools", "msgspec", "blake3")


def describe() -> dict[str, str]:
    """Machine, kernel, versions and revision, by name."""
    return {
        "cpu": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load average": f"{os.getloadavg()[0]:.2f} before starting",
        "python": sys.version.split()[0],
        **{library: version(library) for library in LIBRARIES},
        "nginx": _tool_version("nginx", "-v"),
        "wrk": _tool_version("wrk", "-v"),
        "revision": _revision(),
    }


def _cpu_model() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.processor() or "unknown CPU"


def _tool_version(tool: str, flag: str) -> str:
    """The version a tool states; wrk and nginx differ in where they write it and in their exit code."""
    if not shutil.which(tool):
        return "not on PATH"
    told = subprocess.run([tool, flag], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+[\w.+-]*", told.stdout + told.stderr)
    return found[0] if found else "unknown"


def _revision() -> str:
    if not shutil.which("git"):
        return "unknown"
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return told.stdout.strip() or "unknown"
