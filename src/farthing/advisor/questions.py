"""Questions of a probe: prompts of so many tokens that no cache knows, and answers with the times of their tokens."""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Literal

import msgspec

from farthing.dialects import sse
from farthing.ports import Flow, Outcome, Question
from farthing.schema import Headers

Endpoint = Literal["chat", "completions"]

PATHS: dict[Endpoint, str] = {"chat": "/chat/completions", "completions": "/completions"}

_WORDS: tuple[str, ...] = (
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state",
    "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week", "company", "system",
    "program", "work", "government", "number", "night", "point", "home", "water", "room", "mother", "area", "money",
    "story", "fact", "month", "lot", "right", "study", "book", "eye", "job", "word", "business", "issue", "side",
    "kind", "head", "house", "service", "friend", "power", "hour", "game", "line", "end", "member", "law", "car",
)  # fmt: skip
"""Common words: one token each in most vocabularies, so that lengths are guessed well before they are counted."""

SIMULATED = b"x-farthing-simulated"
"""The header that marks what Farthing's own stub and its replays answer."""

_HEADERS: Headers = ((b"content-type", b"application/json"), (b"accept", b"text/event-stream"))
_FRAME_BYTES = 1 << 20
_CLOSING_CHUNKS = 8
_REFUSAL_BYTES = 4096


class Manner(msgspec.Struct, frozen=True):
    """How an engine wants to be asked: under what name, where, and what else it accepts in a request."""

    model: str
    endpoint: Endpoint = "chat"
    ignore_eos: bool = True

    def question(self, prompt: str, output_tokens: int) -> Question:
        """A streamed question for so many tokens of output."""
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": output_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.endpoint == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        if self.ignore_eos:
            body["ignore_eos"] = True
        return Question("POST", PATHS[self.endpoint], _HEADERS, msgspec.json.encode(body), stream=True)


class Lengths(msgspec.Struct, frozen=True):
    """How many tokens a prompt of so many words has: `fixed` for the template, `per_word` for each."""

    fixed: float = 0.0
    per_word: float = 1.0

    @classmethod
    def of(cls, few: tuple[int, int], many: tuple[int, int]) -> "Lengths":
        """From the words and tokens of two prompts.

        >>> Lengths.of((10, 25), (110, 145))
        Lengths(fixed=13.0, per_word=1.2)
        """
        per_word = max((many[1] - few[1]) / (many[0] - few[0]), 0.1)
        return cls(max(few[1] - per_word * few[0], 0.0), per_word)

    def words(self, tokens: int) -> int:
        """The words of a prompt with about so many tokens; at least one."""
        return max(round((tokens - self.fixed) / self.per_word), 1)


def prompt(words: int, dice: Random) -> str:
    """A text of so many words that begins like no other, so that no prefix cache holds any of it."""
    return " ".join(dice.choices(_WORDS, k=words))


class _Part(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    delta: _Part | None = None
    text: str | None = None


class _Cached(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Cached | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_read_event = msgspec.json.Decoder(_Event).decode


class Answer:
    """One streamed answer as it comes in: a `farthing.ports.Sink` that notes when its tokens came (seconds).

    `frames` is told how many pieces of text arrive; a piece is a token or a few, which the usage tells in the end.
    """

    def __init__(self, now: Callable[[], float], frames: Callable[[int], None]) -> None:
        self.began_s = now()
        self.first_s: float | None = None
        self.last_s = self.began_s
        self.status = 0
        self.pieces = 0
        self.usage: _Usage | None = None
        self.problem = ""
        self._now = now
        self._frames = frames
        self._framer: sse.Framer | None = sse.Framer(_FRAME_BYTES)
        self._closing: deque[bytes] = deque(maxlen=_CLOSING_CHUNKS)
        self._refusal = b""

    def begin(self, status: int, headers: Headers, flow: Flow | None) -> None:
        self.status = status
        if any(name == SIMULATED for name, _ in headers):
            self.problem = "its answers are simulated, and say nothing of any engine"

    def chunk(self, data: bytes) -> None:
        if self.status >= 400:
            self._refusal = (self._refusal + data)[:_REFUSAL_BYTES]
            return
        self.last_s = self._now()
        self._closing.append(data)
        if self._framer is not None:
            self._look_for_first(self._framer.feed(data))
        if self.first_s is not None:
            pieces = data.count(b"data:")
            self.pieces += pieces
            self._frames(pieces)

    def end(self, outcome: Outcome) -> None:
        """Read what the engine says it did; `problem` says what went wrong, if anything did."""
        if self.status >= 400:
            said = self._refusal.decode("utf-8", errors="replace").strip()
            self.problem = f"it answered {self.status}: {said[:300] or 'nothing more'}"
            return
        if outcome.ending != "complete":
            self.problem = self.problem or outcome.detail or f"the answer ended as {outcome.ending}"
            return
        for frame in sse.split(b"".join(self._closing)):
            event = _event(frame)
            if event is not None and event.usage is not None:
                self.usage = event.usage
        if self.problem:
            return
        if self.usage is None or not self.usage.completion_tokens:
            self.problem = "its streams do not report usage, though stream_options.include_usage asked for it"
        elif self.first_s is None:
            self.problem = "its stream holds no text"

    @property
    def tpot_s(self) -> float | None:
        """Seconds per output token after the first; None for one token."""
        if self.usage is None or self.first_s is None or self.usage.completion_tokens < 2:
            return None
        return (self.last_s - self.first_s) / (self.usage.completion_tokens - 1)

    def _look_for_first(self, frames: bytes) -> None:
        """Note when the first text came: engines send a frame that only names the role before it."""
        for frame in sse.split(frames) if frames else ():
            event = _event(frame)
            if event is None:
                continue
            if event.error:
                self.problem = f"it sent an error: {str(event.error)[:300]}"
            if any(_text(choice) for choice in event.choices):
                self.first_s = self.last_s
                self._framer = None
                return


def _event(frame: bytes) -> _Event | None:
    data = sse.data_of(frame)
    if data is None or data == sse.DONE:
        return None
    try:
        return _read_event(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _text(choice: _Choice) -> str:
    part = choice.delta
    return choice.text or (part and (part.content or part.reasoning_content or part.reasoning)) or ""
