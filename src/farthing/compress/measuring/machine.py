"""The machine that figures were measured on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

INSTRUCTION_SETS: Final = {
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "avx512_bf16": "avx512_bf16",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "asimd": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "sve": "sve",
}
"""Those that matter to a small model, by the names that Linux gives them."""

_PACKAGES: Final = ("onnxruntime", "tokenizers", "numpy", "torch", "transformers")


class MachineFacts(msgspec.Struct, frozen=True):
    """A processor, its instruction sets and how many cores of it may be used; memory in MB; versions of what ran.

    `governor` is how the clock is steered ("" where nobody says).
    """

    cpu: str
    instruction_sets: tuple[str, ...]
    cores: int
    memory_mb: float | None
    versions: dict[str, str]
    governor: str = ""


def machine_facts() -> MachineFacts:
    """What can be read of the machine this runs on."""
    cpu, sets = processor(_read(Path("/proc/cpuinfo")))
    return MachineFacts(
        cpu or platform.processor() or platform.machine(),
        sets,
        cores(),
        _memory_mb(),
        {"python": platform.python_version()} | {name: found for name in _PACKAGES if (found := _version(name))},
        _read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")).strip(),
    )


def processor(cpuinfo: str) -> tuple[str, tuple[str, ...]]:
    """The name and the instruction sets of the first processor in the text of /proc/cpuinfo."""
    name, flags = "", set[str]()
    for line in cpuinfo.split("\n\n", 1)[0].splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            flags = set(value.split())
    return name, tuple(called for flag, called in INSTRUCTION_SETS.items() if flag in flags)


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_mb() -> float | None:
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
