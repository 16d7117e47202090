"""Compiling, and knowing whether compiled code that was kept on disk still stands for its sources.

Numba looks only at the file of the function it keeps; what that calls may have changed since.
"""

import zlib
from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar

import numpy as np
from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


# Nothing that is compiled allocates: without counts of references it runs more than twice as fast. It is called by
# compiled code only, so it needs no wrapper for Python, which saves a third of the time to compile.
_FLAGS = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def compiled(function: Function) -> Function:
    """Compile a function together with what calls it; to a type checker it stays what it is."""
    return njit(**_FLAGS)(function)  # type: ignore[no-any-return,call-overload,unused-ignore]


def fingerprint(function: Callable[..., Any]) -> int:
    """A number that changes with the code of a function, of all it calls, and with the constants they read."""
    parts = {"": repr(_FLAGS)}
    _collect(function, parts)
    return zlib.crc32(repr(sorted(parts.items())).encode())


def _collect(function: Callable[..., Any], parts: dict[str, str]) -> None:
    plain = getattr(function, "py_func", function)
    name = f"{plain.__module__}.{plain.__qualname__}"
    if name in parts:
        return
    code: CodeType = plain.__code__
    parts[name] = repr((code.co_code, code.co_consts, code.co_names))
    for called in code.co_names:
        value = plain.__globals__.get(called)
        if callable(value) and hasattr(value, "py_func"):
            _collect(value, parts)
        elif isinstance(value, int | float | np.dtype):
            parts[f"{plain.__module__}.{called}"] = repr(value)
