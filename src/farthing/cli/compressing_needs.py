"""What steps of compression compute with, which not every installation has."""

from collections.abc import Iterator
from contextlib import contextmanager

from farthing.errors import ConfigError

LIBRARIES = ("numpy", "scipy", "torch", "transformers", "onnx", "onnxruntime", "tokenizers", "safetensors")


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Raises ConfigError, naming the `extra` of ours to install, where a library that the block imports is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in LIBRARIES:
            raise
        raise ConfigError(
            f"This needs {name}, which is not installed.", hint=f"Run: pip install 'farthing[{extra}]'"
        ) from None
