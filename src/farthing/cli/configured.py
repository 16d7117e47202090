"""The configuration that a verb runs under."""

import os
from collections.abc import Sequence

from farthing.cli.asking import Asked
from farthing.config import Loaded, Override, load


def configuration(asked: Asked, flags: Sequence[Override] = ()) -> Loaded:
    """What the file, the environment and the flags say; raises ConfigError."""
    return load(asked.config, os.environ, flags)
