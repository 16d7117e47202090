"""Usage of chat completions, completions and embeddings, as OpenAI and those who follow it report it.

Inclusive: cached, written, audio and image tokens are inside `prompt_tokens`; reasoning, audio and rejected
predictions are inside `completion_tokens`. Where `total_tokens` is more than the two together (Gemini, xAI), the
difference is reasoning that `completion_tokens` leaves out.
"""

from typing import Final

import msgspec

from farthing.dialects.usage.reports import NOTHING, Count, Given, Report, Tally, shares
from farthing.schema import Usage


class _Modalities(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """vLLM's split of prompt tokens that are not text."""

    image: Count | None = None
    audio: Count | None = None
    video: Count | None = None


class _Prompt(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What is inside `prompt_tokens`. vLLM prefills `created_cache_tokens` at no premium: they stay plain input."""

    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None
    video_tokens: Count | None = None
    text_tokens: Count | None = None
    created_cache_tokens: Count | None = None
    multimodal_tokens: _Modalities | None = None


class _Completion(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What is inside `completion_tokens`."""

    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None
    text_tokens: Count | None = None
    accepted_prediction_tokens: Count | None = None
    rejected_prediction_tokens: Count | None = None


class CompletionReport(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The usage object, with the names that OpenAI's followers add to it."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: _Prompt | None = None
    completion_tokens_details: _Completion | None = None
    # DeepSeek
    prompt_cache_hit_tokens: Count | None = None
    prompt_cache_miss_tokens: Count | None = None
    # Moonshot and Together; Mistral; SGLang
    cached_tokens: Count | None = None
    num_cached_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    # OpenRouter's price in dollars: the ledger computes its own from dated prices, so this is known and not used.
    cost: object = None
    cost_details: object = None
    is_byok: object = None
    # Groq's timings
    queue_time: object = None
    prompt_time: object = None
    completion_time: object = None
    total_time: object = None


_REPORT: Final = Report(CompletionReport)
_NO_PROMPT: Final = _Prompt()
_NO_COMPLETION: Final = _Completion()
_NO_MODALITIES: Final = _Modalities()
_DEFAULT_TTL: Final = "30m"
_WRITTEN_FOR: Final = {ttl: f"cache_write_{ttl}" for ttl in ("5m", "30m", "1h", "12h")}


def completion_usage(given: Given, cache_ttl: str | None = None) -> Tally:
    """The `usage` object of a chat, completions or embeddings answer, in buckets that sum to its total.

    `cache_ttl` is the time to live the call asked for: the report does not say how long what was written lives.
    """
    reported, unknown = _REPORT.read(given) if given else (None, ())
    if reported is None:
        return Tally(None, unknown) if unknown else NOTHING
    usage = plain_usage(reported)
    if usage is None:
        usage, stranger = divided_usage(reported, cache_ttl)
        unknown += stranger
    return Tally(usage, unknown)


def plain_usage(reported: CompletionReport) -> Usage | None:
    """The buckets of a report of text with cached and reasoning tokens inside it, which nearly every report is.

    `None` for any other; where this gives buckets, they are those of `divided_usage`, had for less.
    """
    cached, reasoning = 0, reported.reasoning_tokens or 0
    prompt, spoken = reported.prompt_tokens_details, reported.completion_tokens_details
    if prompt is not None:
        if (
            prompt.cache_write_tokens
            or prompt.audio_tokens
            or prompt.image_tokens
            or prompt.video_tokens
            or prompt.multimodal_tokens is not None
        ):
            return None
        cached = prompt.cached_tokens or 0
    if spoken is not None:
        if spoken.audio_tokens or spoken.image_tokens or spoken.rejected_prediction_tokens:
            return None
        reasoning = spoken.reasoning_tokens or reasoning
    cached = cached or _cached_elsewhere(reported)
    asked, said = reported.prompt_tokens or 0, reported.completion_tokens or 0
    if cached > asked or reasoning > said or (reported.total_tokens or 0) > asked + said:
        return None
    return Usage(input=asked - cached, cache_read=cached, output=said - reasoning, reasoning=reasoning)


def divided_usage(reported: CompletionReport, cache_ttl: str | None) -> tuple[Usage, tuple[str, ...]]:
    """The buckets of any report, however its details overlap, and what in it has none."""
    prompt = reported.prompt_tokens_details or _NO_PROMPT
    spoken = reported.completion_tokens_details or _NO_COMPLETION
    modes = prompt.multimodal_tokens or _NO_MODALITIES
    asked, said = reported.prompt_tokens or 0, reported.completion_tokens or 0
    left_out = max(0, (reported.total_tokens or 0) - asked - said)
    read, written, audio, image, video, text = shares(
        asked,
        prompt.cached_tokens or _cached_elsewhere(reported),
        prompt.cache_write_tokens or 0,
        prompt.audio_tokens or modes.audio or 0,
        prompt.image_tokens or modes.image or 0,
        prompt.video_tokens or modes.video or 0,
    )
    reasoning = spoken.reasoning_tokens or reported.reasoning_tokens or 0
    hidden, voice, picture, rejected, visible = shares(
        said,
        max(0, reasoning - left_out),
        spoken.audio_tokens or 0,
        spoken.image_tokens or 0,
        spoken.rejected_prediction_tokens or 0,
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
    )
    if not written:
        return usage, ()
    bucket, stranger = written_for(cache_ttl)
    return msgspec.structs.replace(usage, **{bucket: written}), stranger


def _cached_elsewhere(reported: CompletionReport) -> int:
    """Tokens read from the provider's cache, where OpenAI's followers report them."""
    return reported.prompt_cache_hit_tokens or reported.cached_tokens or reported.num_cached_tokens or 0


def written_for(cache_ttl: str | None) -> tuple[str, tuple[str, ...]]:
    """The bucket of tokens written to live so long; for a time to live without one, the default's and its name."""
    bucket = _WRITTEN_FOR.get(cache_ttl or _DEFAULT_TTL)
    if bucket is not None:
        return bucket, ()
    return _WRITTEN_FOR[_DEFAULT_TTL], (f"cache_write_{cache_ttl}",)


def completion_report(usage: Usage) -> dict[str, object]:
    """Buckets as the `usage` object of a chat or text completion: the inverse of `completion_usage`."""
    written = usage.cache_write_5m + usage.cache_write_30m + usage.cache_write_1h + usage.cache_write_12h
    prompt = {
        "cached_tokens": usage.cache_read,
        "cache_write_tokens": written,
        "audio_tokens": usage.input_audio,
        "image_tokens": usage.input_image,
    }
    if usage.input_video:
        prompt["video_tokens"] = usage.input_video
    completion = {
        "reasoning_tokens": usage.reasoning,
        "audio_tokens": usage.output_audio,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": usage.rejected_prediction,
    }
    if usage.output_image:
        completion["image_tokens"] = usage.output_image
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.tokens,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": completion,
    }
