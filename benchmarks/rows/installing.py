"""What the base install brings with it."""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.figures import Figure, Target
from benchmarks.process import ROOT

INSTALLERS = ("pip", "setuptools")


def install(effort: Effort) -> list[Figure]:
    """Distributions and megabytes in a fresh virtual environment after `pip install .`, pip itself not counted."""
    if not effort.install:
        return _figures((), (), "left out of a quick run")
    with tempfile.TemporaryDirectory(prefix="farthing-install-") as home:
        venv.create(home, with_pip=True)
        pip = [f"{home}/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", str(ROOT)]
        result = subprocess.run(pip, capture_output=True, text=True, check=False)
        if result.returncode:
            return _figures((), (), f"pip install failed: {result.stderr.strip()[-300:]}")
        packages = Path(home, "lib", f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages")
        ours = [entry for entry in packages.iterdir() if not entry.name.startswith(INSTALLERS)]
        distributions = sum(entry.suffix == ".dist-info" for entry in ours)
        size = sum(file.stat().st_size for entry in ours for file in (entry, *entry.rglob("*")) if file.is_file())
    return _figures((float(distributions),), (size / 1e6,), "")


def _figures(distributions: tuple[float, ...], megabytes: tuple[float, ...], note: str) -> list[Figure]:
    return [
        Figure("base install, distributions", Target(25), distributions, note=note),
        Figure("base install, size", Target(60, None, "MB"), megabytes),
    ]
