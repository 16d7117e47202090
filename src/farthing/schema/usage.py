"""Usage: what a provider says it processed, in buckets that never overlap."""

from typing import Literal

import msgspec

UsageSource = Literal["provider", "counted", "estimated", "none"]


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Quantities processed for one attempt, each counted in exactly one bucket.

    Token buckets (their sum is `tokens`, the provider's own total):
    `input` is text input neither read from nor written to a provider cache; `cache_read` and `cache_write_*`
    are input served from, or stored in, the provider's prompt cache (the suffix is the time to live);
    `output` is visible text output; `reasoning` is hidden output; `rejected_prediction` is predicted output
    that was billed and thrown away.
    Fee buckets count uses of a tool, not tokens: `web_search`, `web_fetch`.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_30m: int = 0
    cache_write_1h: int = 0
    cache_write_12h: int = 0
    input_audio: int = 0
    input_image: int = 0
    input_video: int = 0
    output: int = 0
    reasoning: int = 0
    output_audio: int = 0
    output_image: int = 0
    rejected_prediction: int = 0
    web_search: int = 0
    web_fetch: int = 0

    @property
    def input_tokens(self) -> int:
        """All input tokens, cached or not, of every modality."""
        return (
            self.input + self.cache_read
            + self.cache_write_5m + self.cache_write_30m + self.cache_write_1h + self.cache_write_12h
            + self.input_audio + self.input_image + self.input_video
        )  # fmt: skip

    @property
    def output_tokens(self) -> int:
        """All output tokens, hidden or visible, of every modality."""
        return self.output + self.reasoning + self.output_audio + self.output_image + self.rejected_prediction

    @property
    def tokens(self) -> int:
        """All tokens; equals the provider's total."""
        return self.input_tokens + self.output_tokens


METERS: tuple[str, ...] = Usage.__struct_fields__
"""The name of every bucket, in order: a price row has one unit price per meter."""

CACHE_WRITE_METERS: tuple[str, ...] = tuple(m for m in METERS if m.startswith("cache_write_"))
FEE_METERS: tuple[str, ...] = ("web_search", "web_fetch")
