"""Usage of chat completions, completions and embeddings, as OpenAI and those who follow it report it.

Inclusive: cached, written, audio and image tokens are inside `prompt_tokens`; reasoning, audio and rejected
predictions are inside `completion_tokens`. Where `total_tokens` is more than the two together (Gemini, xAI), the
difference is reasoning that `completion_tokens` leaves out.
"""

from typing import Final

from farthing.dialects.usage.counts import (
    NOTHING,
    Fields,
    Tally,
    UnreadableCountError,
    count,
    nested,
    shares,
    strangers,
)
from farthing.schema import Usage

_KNOWN: Final = frozenset(
    (
        "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details",
        # DeepSeek; Mistral; Moonshot and Together; SGLang
        "prompt_cache_hit_tokens", "prompt_cache_miss_tokens", "num_cached_tokens", "cached_tokens", "reasoning_tokens",
        # OpenRouter's own price, in dollars: an entry's cost is computed, so these are known and not read
        "cost", "cost_details", "is_byok",
        # Groq's timings
        "queue_time", "prompt_time", "completion_time", "total_time",
    )
)  # fmt: skip
_KNOWN_PROMPT: Final = frozenset(
    (
        "cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "video_tokens", "text_tokens",
        # vLLM: `created_cache_tokens` are prefilled at no premium, so they stay plain input
        "created_cache_tokens", "multimodal_tokens",
    )
)  # fmt: skip
_KNOWN_COMPLETION: Final = frozenset(
    (
        "reasoning_tokens", "audio_tokens", "image_tokens", "text_tokens",
        "accepted_prediction_tokens", "rejected_prediction_tokens",
    )
)  # fmt: skip
_KNOWN_MODALITIES: Final = frozenset(("audio", "image", "video"))
DEFAULT_TTL: Final = "30m"
WRITTEN_FOR: Final = {ttl: f"cache_write_{ttl}" for ttl in ("5m", "30m", "1h", "12h")}


def completion_usage(reported: object, cache_ttl: str | None = None) -> Tally:
    """The `usage` object of a chat, completions or embeddings answer, in buckets that sum to its total.

    `cache_ttl` is the time to live the call asked for: the report does not say how long what was written lives.
    """
    if reported is None:
        return NOTHING
    if not isinstance(reported, dict):
        return Tally(None, ("usage",))
    try:
        return _completion_usage(reported, cache_ttl)
    except UnreadableCountError as error:
        return Tally(None, (str(error),))


def _completion_usage(reported: Fields, cache_ttl: str | None) -> Tally:
    prompt = count(reported, "prompt_tokens")
    completion = count(reported, "completion_tokens")
    details = nested(reported, "prompt_tokens_details")
    spoken = nested(reported, "completion_tokens_details")
    left_out = max(0, count(reported, "total_tokens") - prompt - completion)
    reasoning = count(spoken, "reasoning_tokens") or count(reported, "reasoning_tokens")
    modes = nested(details, "multimodal_tokens")
    ttl, unknown = written_for(cache_ttl, count(details, "cache_write_tokens"))
    read, written, audio, image, video, text = shares(
        prompt,
        _cached(reported, details),
        count(details, "cache_write_tokens"),
        count(details, "audio_tokens") or count(modes, "audio"),
        count(details, "image_tokens") or count(modes, "image"),
        count(details, "video_tokens") or count(modes, "video"),
    )
    hidden, voice, picture, rejected, visible = shares(
        completion,
        max(0, reasoning - left_out),
        count(spoken, "audio_tokens"),
        count(spoken, "image_tokens"),
        count(spoken, "rejected_prediction_tokens"),
    )
    usage = Usage(
        input=text,
        cache_read=read,
        input_audio=audio,
        input_image=image,
        input_video=video,
        output=visible,
        reasoning=hidden + left_out,
        output_audio=voice,
        output_image=picture,
        rejected_prediction=rejected,
        **{ttl: written},
    )
    return Tally(
        usage,
        strangers(reported, _KNOWN)
        + strangers(details, _KNOWN_PROMPT, "prompt_tokens_details.")
        + strangers(modes, _KNOWN_MODALITIES, "prompt_tokens_details.multimodal_tokens.")
        + strangers(spoken, _KNOWN_COMPLETION, "completion_tokens_details.")
        + unknown,
    )


def _cached(reported: Fields, details: Fields) -> int:
    """Tokens read from the provider's cache, by whichever name this provider has for them."""
    return (
        count(details, "cached_tokens")
        or count(reported, "prompt_cache_hit_tokens")
        or count(reported, "cached_tokens")
        or count(reported, "num_cached_tokens")
    )


def written_for(cache_ttl: str | None, written: int) -> tuple[str, tuple[str, ...]]:
    """The bucket for tokens written with a time to live; and a note, when any were written for one without a bucket."""
    bucket = WRITTEN_FOR.get(cache_ttl or DEFAULT_TTL)
    if bucket is not None:
        return bucket, ()
    return WRITTEN_FOR[DEFAULT_TTL], (f"cache_write_{cache_ttl}",) if written else ()
