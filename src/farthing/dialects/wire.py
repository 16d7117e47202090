"""What Farthing reads of an answer, by family: typed, partial, and blind to everything else."""

from typing import Any, Final

import msgspec

from farthing.dialects.usage import CompletionReport, MessageReport

Json = dict[str, Any]
"""A JSON object of a wire format; it goes no further than this package."""

ABSENT: Final = msgspec.Raw()
"""The value of a member that was not there."""
_NOTHING: Final = (b"", b"null")


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Groq(msgspec.Struct, gc=False):
    usage: msgspec.Raw = ABSENT


class _AnyCompletion(msgspec.Struct, gc=False):
    """A chat or text completion, whole or one chunk of a stream; also embeddings, which have `data` for choices."""

    model: str | None = None
    service_tier: str | None = None
    choices: list[_Choice] | None = None
    data: msgspec.Raw = ABSENT
    x_groq: _Groq | None = None
    error: object = None

    @property
    def finish(self) -> str | None:
        """Why it stopped: of several choices, the first that did not simply stop."""
        finish = None
        for choice in self.choices or ():
            reason = choice.finish_reason
            if reason and reason != "stop":
                return reason
            finish = reason or finish
        return finish


class Completion(_AnyCompletion, gc=False):
    """A completion whose usage is still to be read, so that nothing in it can make the rest unreadable."""

    usage: msgspec.Raw = ABSENT

    @property
    def reported(self) -> bytes:
        """The usage object, wherever this provider puts it; empty when there is none."""
        reported = bytes(self.usage)
        if reported in _NOTHING and self.x_groq is not None:
            reported = bytes(self.x_groq.usage)
        return b"" if reported == b"null" else reported

    @property
    def stops(self) -> int:
        """How many choices stopped."""
        return sum(1 for choice in self.choices or () if choice.finish_reason)


class MeteredCompletion(_AnyCompletion, gc=False):
    """A completion with usage in which everything is known; decoding any other fails."""

    usage: CompletionReport | None = None


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class Response(msgspec.Struct, gc=False):
    """A response of the Responses API."""

    model: str | None = None
    service_tier: str | None = None
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    output: msgspec.Raw = ABSENT
    usage: msgspec.Raw = ABSENT
    tool_usage: msgspec.Raw = ABSENT
    error: object = None

    @property
    def finish(self) -> str | None:
        """Why it stopped: the reason it is incomplete, or else its status."""
        details = self.incomplete_details
        return details.reason if details is not None and details.reason else self.status


class ResponseEvent(msgspec.Struct, gc=False):
    """One event of a Responses stream; `code` is an error event's own."""

    type: str = ""
    response: Response | None = None
    code: str | None = None
    error: object = None


class _AnyMessage(msgspec.Struct, gc=False):
    """An Anthropic message, or the start of one; also a token count, which has `input_tokens` alone."""

    type: str = ""
    model: str | None = None
    stop_reason: str | None = None
    content: msgspec.Raw = ABSENT
    input_tokens: object = None
    error: object = None


class Message(_AnyMessage, gc=False):
    """A message whose usage is still to be read, so that nothing in it can make the rest unreadable."""

    usage: msgspec.Raw = ABSENT


class MeteredMessage(_AnyMessage, gc=False):
    """A message with usage in which everything is known; decoding any other fails."""

    usage: MessageReport | None = None


class _Stop(msgspec.Struct, gc=False):
    stop_reason: str | None = None


class MessageEvent(msgspec.Struct, gc=False):
    """One event of a message's stream."""

    type: str = ""
    message: Message | None = None
    delta: _Stop | None = None
    usage: msgspec.Raw = ABSENT
    error: object = None


class _Billed(msgspec.Struct, gc=False):
    input_tokens: int | float | None = None


class _Meta(msgspec.Struct, gc=False):
    billed_units: _Billed | None = None
    tokens: _Billed | None = None


class Ranking(msgspec.Struct, gc=False):
    """Documents by relevance; Jina and vLLM report their tokens in `usage`, Cohere in `meta`."""

    model: str | None = None
    results: msgspec.Raw = ABSENT
    usage: CompletionReport | None = None
    meta: _Meta | None = None
    error: object = None

    @property
    def tokens(self) -> int | None:
        """Tokens read; a ranking is made of nothing else."""
        if self.usage is not None:
            told = self.usage.prompt_tokens
            return self.usage.total_tokens if told is None else told
        if self.meta is None:
            return None
        for counted in (self.meta.billed_units, self.meta.tokens):
            if counted is not None and counted.input_tokens is not None:
                return int(counted.input_tokens)
        return None


class Listing(msgspec.Struct, gc=False):
    """A list of models, or one of them."""

    id: str | None = None
    data: msgspec.Raw = ABSENT
    error: object = None


COMPLETION: Final = msgspec.json.Decoder(Completion)
METERED_COMPLETION: Final = msgspec.json.Decoder(MeteredCompletion)
RESPONSE: Final = msgspec.json.Decoder(Response)
RESPONSE_EVENT: Final = msgspec.json.Decoder(ResponseEvent)
MESSAGE: Final = msgspec.json.Decoder(Message)
METERED_MESSAGE: Final = msgspec.json.Decoder(MeteredMessage)
MESSAGE_EVENT: Final = msgspec.json.Decoder(MessageEvent)
RANKING: Final = msgspec.json.Decoder(Ranking)
LISTING: Final = msgspec.json.Decoder(Listing)
MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
OBJECT: Final = msgspec.json.Decoder(Json)
ANY: Final = msgspec.json.Decoder()

NULL_USAGE: Final = b',"usage":null'
"""A member that a stream's chunks carry when its usage was asked for. Quotes inside JSON strings are always escaped,
so these bytes are this member wherever they stand, and can be cut out of a chunk without parsing it."""

NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises when the bytes are not the JSON that was hoped for."""
