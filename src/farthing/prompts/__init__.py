"""What a prompt is made of, and how much of it there is."""

from farthing.prompts.calibration import Calibration
from farthing.prompts.estimate import estimate_input, estimate_tokens

__all__ = ["Calibration", "estimate_input", "estimate_tokens"]
