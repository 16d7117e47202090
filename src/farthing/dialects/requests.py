"""A caller's request as a Call, and a Call as the bytes an upstream is sent."""

import re
from typing import Annotated, Final

import msgspec

from farthing.dialects.endpoints import MODELS_PATH, USAGE_ON_REQUEST
from farthing.errors import RequestError
from farthing.schema import Call, Endpoint, Headers

Count = Annotated[int, msgspec.Meta(ge=0)]
_ABSENT: Final = msgspec.Raw()
_NOTHING: Final = (b"", b"null", b"[]")
_ASK: Final = b'{"stream_options":{"include_usage":true},'
_ASK_RUNNING: Final = b'{"stream_options":{"include_usage":true,"continuous_usage_stats":true},'


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class _CacheOptions(msgspec.Struct, gc=False):
    ttl: str | None = None


class _Request(msgspec.Struct, gc=False):
    """The fields that levers read, by the names any endpoint gives them; the rest is checked to be JSON and skipped."""

    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: float | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    max_output_tokens: Count | None = None
    n: Count | None = None
    best_of: Count | None = None
    tools: msgspec.Raw = _ABSENT
    functions: msgspec.Raw = _ABSENT
    service_tier: str | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: msgspec.Raw = _ABSENT
    container: msgspec.Raw = _ABSENT
    prompt_cache_options: _CacheOptions | None = None
    metadata: msgspec.Raw = _ABSENT


_REQUEST: Final = msgspec.json.Decoder(_Request)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT: Final = msgspec.json.Decoder(str)

MOST_TAGS: Final = 16
LONGEST_TAG_NAME: Final = 64
TAG_BYTES: Final = 256
METADATA_BYTES: Final = 65_536
"""More than any provider takes: longer metadata is not read."""


def decode(endpoint: Endpoint, body: bytes, *, method: str, path: str, headers: Headers = ()) -> Call:
    """Read a request's body into a Call; fields that no lever reads stay in the body, unread and unchanged.

    Raises RequestError, saying where and what, when the body is not JSON or a field that Farthing reads is not what
    the API says it is. Fields it does not know are never refused.
    """
    if endpoint == "models":
        name = path.partition("?")[0][len(MODELS_PATH) + 1 :]
        return Call(endpoint, name, b"", method, path, headers)
    try:
        asked = _REQUEST.decode(body)
        if not body.isascii():
            body.decode()
    except UnicodeDecodeError:
        raise _not_utf8(body) from None
    except RecursionError:
        raise RequestError("The request body nests too deeply to be read.", hint="Send flatter JSON.") from None
    except msgspec.DecodeError as error:
        raise _unreadable(body, error) from None
    limit = asked.max_completion_tokens
    if limit is None:
        limit = asked.max_tokens if asked.max_output_tokens is None else asked.max_output_tokens
    options = asked.stream_options
    cache = asked.prompt_cache_options
    return Call(
        endpoint,
        asked.model,
        body,
        method,
        path,
        headers,
        asked.stream is True,
        options is not None and options.include_usage is True,
        asked.temperature,
        limit,
        max(asked.n or 1, asked.best_of or 1),
        _is_given(asked.tools) or _is_given(asked.functions),
        _is_stateful(asked),
        asked.service_tier,
        None if cache is None else cache.ttl,
        tags=() if asked.metadata is _ABSENT else _tags(asked.metadata),
    )


def _tags(metadata: msgspec.Raw) -> tuple[tuple[str, str], ...]:
    """The labels in a body: the first strings of its `metadata` (Anthropic's `user_id` is one), cut off where long.

    What else stands there is the provider's to refuse.
    """
    tags: dict[str, str] = {}
    if memoryview(metadata).nbytes > METADATA_BYTES:
        return ()
    try:
        for name, member in _MEMBERS.decode(metadata).items():
            if len(tags) == MOST_TAGS:
                break
            if len(name) <= LONGEST_TAG_NAME and bytes(member).startswith(b'"'):
                tags[name.lower()] = _TEXT.decode(member).encode()[:TAG_BYTES].decode(errors="ignore")
    except (msgspec.DecodeError, RecursionError):
        return ()
    return tuple(tags.items())


def _is_stateful(asked: _Request) -> bool:
    """Whether the answer depends on, or is to become part of, something the provider keeps."""
    return (
        asked.store is True
        or asked.background is True
        or asked.previous_response_id is not None
        or _is_given(asked.conversation)
        or _is_given(asked.container)
    )


def _is_given(member: msgspec.Raw) -> bool:
    return member is not _ABSENT and bytes(member) not in _NOTHING


def encode(
    call: Call, *, model: str | None = None, running_usage: bool = False, max_output: int | None = None
) -> bytes:
    """The body to send upstream: the caller's own bytes unless something must change.

    `model` renames the model; `max_output` is a cap on output, in tokens, in place of the caller's. A streamed chat or
    completions call that did not ask for its usage is made to ask; `running_usage` asks for it in every frame (vLLM).
    Values that do not change are copied byte for byte.
    """
    forced = call.stream and call.endpoint in USAGE_ON_REQUEST and (running_usage or not call.wants_usage)
    renamed = model is not None and model != call.model
    if not forced and not renamed and max_output is None:
        return call.body
    if not renamed and max_output is None and b'"stream_options"' not in call.body:
        return _spliced(call.body, running_usage)
    members = _MEMBERS.decode(call.body)
    if renamed:
        members["model"] = msgspec.Raw(msgspec.json.encode(model))
    if max_output is not None:
        members[_cap_member(call.endpoint, members)] = msgspec.Raw(b"%d" % max_output)
    if forced:
        members["stream_options"] = _with_usage(members.get("stream_options", _ABSENT), running_usage)
    return msgspec.json.encode(members)


def _cap_member(endpoint: str, members: dict[str, msgspec.Raw]) -> str:
    """What an endpoint calls the cap on output; chat has an old name for it and a new one."""
    if endpoint == "chat":
        return "max_tokens" if "max_tokens" in members else "max_completion_tokens"
    return "max_output_tokens" if endpoint == "responses" else "max_tokens"


def _spliced(body: bytes, running_usage: bool) -> bytes:
    # One replacement copies a large body once; concatenating slices would copy it twice.
    return body.replace(b"{", _ASK_RUNNING if running_usage else _ASK, 1)


def _with_usage(options: msgspec.Raw, running_usage: bool) -> msgspec.Raw:
    members = {} if bytes(options) in (b"", b"null") else _MEMBERS.decode(options)
    members["include_usage"] = msgspec.Raw(b"true")
    if running_usage:
        members["continuous_usage_stats"] = msgspec.Raw(b"true")
    return msgspec.Raw(msgspec.json.encode(members))


_KINDS: Final = {
    "array": "an array",
    "bool": "a boolean",
    "float": "a number",
    "int": "an integer",
    "null": "null",
    "object": "an object",
    "str": "a string",
}
_MISMATCH: Final = re.compile(r"Expected `(\w+)(?: \| null)?`(?: >= (\d+))?(?:, got `(\w+)`)?")
_PLACE: Final = re.compile(r" - at `\$\.?(.*)`$")


def _not_utf8(body: bytes) -> RequestError:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        where = f"byte 0x{body[error.start]:02x} at position {error.start}"
        return RequestError(f"The request body is not valid UTF-8: {where}.", hint="Encode the JSON as UTF-8.")
    return RequestError("The request body holds a string that is not valid text.", hint="Encode the JSON as UTF-8.")


def _unreadable(body: bytes, error: msgspec.DecodeError) -> RequestError:
    """What is wrong with a body, from what the parser says of it."""
    reason = str(error)
    if not isinstance(error, msgspec.ValidationError):
        if not body.strip():
            return RequestError("The request body is empty.", hint="Send a JSON object.")
        reason = reason.removeprefix("JSON is malformed: ").replace("Input data was truncated", "it ends too early")
        return RequestError(
            f"The request body is not valid JSON: {reason}, of {len(body)} bytes.", hint="Send a JSON object."
        )
    if "missing required field `model`" in reason:
        return RequestError("The request does not say which model to ask.", hint="Set `model`.")
    place = _PLACE.search(reason)
    subject = f"`{place[1]}`" if place else "The request body"
    mismatch = _MISMATCH.match(reason)
    if mismatch is None:
        return RequestError(f"{subject} is not a value this API takes: {_PLACE.sub('', reason)}.")
    wanted, least, got = mismatch.groups()
    bound = f" of at least {least}" if least else ""
    instead = f", not {_KINDS.get(got, got)}" if got else ""
    return RequestError(f"{subject} must be {_KINDS.get(wanted, wanted)}{bound}{instead}.")
