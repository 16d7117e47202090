"""Composes a simulated answer from the bytes of a request and a seed."""

import base64
from array import array

import msgspec
from blake3 import blake3

from farthing.schema import Endpoint, Usage
from farthing.simulation.answers import Answer, Finish, ToolUse, prose

MARK = "farthing-stub"

_BYTES_PER_TOKEN = 4
_CACHEABLE_TOKENS, _CACHE_STEP = 1024, 128
_VECTOR_LENGTH, _LONGEST_VECTOR, _LONGEST_ANSWER = 256, 4096, 32_768
_MOST_CHOICES = 128
_THINKERS = ("gpt-5", "gpt-6", "o3", "o4")
_TIERS = {"flex": "flex", "priority": "priority", "fast": "priority"}


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool = False


class Asked(msgspec.Struct, gc=False):
    """The request fields that shape an answer, of every endpoint at once."""

    model: str
    messages: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    documents: msgspec.Raw = msgspec.Raw()
    system: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    service_tier: str | None = None
    encoding_format: str | None = None
    dimensions: int | None = None

    @property
    def question(self) -> bytes:
        """The prompt's JSON, whatever the endpoint calls it."""
        return bytes(self.messages) or bytes(self.input) or bytes(self.prompt) or bytes(self.documents)

    @property
    def head(self) -> int:
        """Bytes of prompt that come before the turns: system text and tools."""
        return len(memoryview(self.system)) + len(memoryview(self.instructions)) + len(memoryview(self.tools))

    @property
    def include_usage(self) -> bool:
        """Whether a streamed chat or completion is to end with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage


class _ToolFunction(msgspec.Struct, gc=False):
    name: str = ""
    parameters: msgspec.Raw = msgspec.Raw()
    input_schema: msgspec.Raw = msgspec.Raw()


class _Tool(_ToolFunction, gc=False):
    """A tool as any of the three dialects offers it: only chat wraps it in `function`."""

    function: _ToolFunction | None = None


class _Property(msgspec.Struct, frozen=True, gc=False):
    type: str | list[str] = "string"


class _Schema(msgspec.Struct, gc=False):
    properties: dict[str, _Property] = {}
    required: list[str] = []


class _Turn(msgspec.Struct, gc=False):
    role: str = "user"


read_question = msgspec.json.Decoder(Asked).decode
"""Read a request body; msgspec.DecodeError when it is not one, or has a field of the wrong type."""

_turns = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = _Property()
_SAMPLES: dict[str, object] = {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}


def compose(endpoint: Endpoint, asked: Asked, seed: int) -> Answer:
    """The answer to a question: length and words from a digest of model and prompt, usage from their lengths.

    A token is taken to be four bytes of prompt JSON. Turns before the last are taken to be in the provider's prompt
    cache once they are long enough, as in a conversation that goes on.
    """
    question = asked.question
    digest = blake3(question).update(asked.model.encode()).digest(8)
    dice = int.from_bytes(digest, "little") ^ seed
    tool = _tool_asked_for(asked, question) if asked.tools else None
    choices = 1 if tool or endpoint == "responses" else min(max(1, asked.n or 1), _MOST_CHOICES)
    prompt = _prompt_usage(endpoint, asked, question)
    if endpoint in ("embeddings", "classify", "rerank", "count_tokens"):
        vectors = () if endpoint == "count_tokens" else _vectors(endpoint, asked)
        return Answer(digest.hex(), asked.model, "", prompt, vectors=vectors, mark=MARK)
    wanted = len(tool.arguments) // _BYTES_PER_TOKEN + 8 if tool else _length(dice)
    cap = asked.max_completion_tokens or asked.max_output_tokens or asked.max_tokens or _LONGEST_ANSWER
    written = min(wanted, max(cap, 1))
    thought = written * (dice >> 24 & 31) // 64 if asked.model.startswith(_THINKERS) and not tool else 0
    finish: Finish = "tool" if tool else "length" if written < wanted else "stop"
    usage = msgspec.structs.replace(prompt, output=(written - thought) * choices, reasoning=thought * choices)
    text = "" if tool else prose(dice, written - thought)
    tier = _TIERS.get(asked.service_tier or "", "default")
    return Answer(digest.hex(), asked.model, text, usage, finish, tool, choices, tier, mark=MARK)


def _length(dice: int) -> int:
    """Between 16 and 511 tokens, each doubling equally likely."""
    scale: int = 16 << dice % 5
    return scale + (dice >> 8) % scale


def _prompt_usage(endpoint: Endpoint, asked: Asked, question: bytes) -> Usage:
    tokens = max(1, (len(question) + asked.head) // _BYTES_PER_TOKEN)
    if tokens < _CACHEABLE_TOKENS or endpoint not in ("chat", "responses", "messages") or question[:1] != b"[":
        return Usage(input=tokens)
    turns = _turns.decode(question)
    earlier = len(question) - len(memoryview(turns[-1])) if len(turns) > 1 else 0
    shared = (earlier + asked.head) // _BYTES_PER_TOKEN // _CACHE_STEP * _CACHE_STEP
    if shared < _CACHEABLE_TOKENS:
        return Usage(input=tokens)
    marked = b'"cache_control"' in question or b'"cache_control"' in bytes(asked.system)
    if endpoint == "messages" and not marked:
        return Usage(input=tokens)
    if earlier:
        return Usage(input=tokens - shared, cache_read=shared)
    return Usage(input=tokens - shared, cache_write_5m=shared) if marked else Usage(input=tokens)


def _tool_asked_for(asked: Asked, question: bytes) -> ToolUse | None:
    """The offered tool whose name follows "call " in the user's last turn."""
    last = question
    if question[:1] == b"[":
        turns = _turns.decode(question)
        last = bytes(turns[-1]) if turns else b""
        if not last.startswith(b"{") or msgspec.json.decode(last, type=_Turn).role != "user":
            return None
    for tool in msgspec.json.decode(asked.tools, type=list[_Tool] | None) or ():
        function = tool.function or tool
        if function.name and b"call %b" % function.name.encode() in last:
            return ToolUse(function.name, _sample_arguments(bytes(function.parameters) or bytes(function.input_schema)))
    return None


def _sample_arguments(schema: bytes) -> str:
    """Arguments that satisfy the required properties of a JSON schema; none for a schema of another kind."""
    try:
        shape = msgspec.json.decode(schema, type=_Schema)
    except msgspec.DecodeError:
        return "{}"
    kinds = {name: shape.properties.get(name, _ANY).type for name in shape.required}
    sample = {name: _SAMPLES.get(kind if isinstance(kind, str) else "", "stub") for name, kind in kinds.items()}
    return msgspec.json.encode(sample).decode()


def _vectors(endpoint: Endpoint, asked: Asked) -> tuple[list[float] | str, ...]:
    """One unit-free vector per input, seeded by its text."""
    given = asked.documents if endpoint == "rerank" else asked.input
    texts = _turns.decode(given) if bytes(given)[:1] == b"[" else [given]
    if texts and bytes(texts[0])[:1].isdigit():
        texts = [given]
    if endpoint != "embeddings":
        return tuple(_vector(bytes(text), 1, packed=False) for text in texts)
    length = min(max(asked.dimensions or _VECTOR_LENGTH, 1), _LONGEST_VECTOR)
    return tuple(_vector(bytes(text), length, asked.encoding_format == "base64") for text in texts)


def _vector(text: bytes, length: int, packed: bool) -> list[float] | str:
    values = [(byte - 127.5) / 127.5 for byte in blake3(text).digest(length)]
    return base64.b64encode(array("f", values).tobytes()).decode() if packed else values
