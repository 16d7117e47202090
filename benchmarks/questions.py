"""The requests that are sent: whole HTTP messages with a serial number in them, so that no two are alike."""

import time

import msgspec

MODEL = "gpt-4o-mini"
SERIAL_DIGITS = 12
SERIALS: int = 10**SERIAL_DIGITS
_SERIAL = "0" * SERIAL_DIGITS
_PROSE = (
    "Please go through the invoices of the third quarter, name every supplier whose unit price rose by more than the "
    "rate of inflation, and say for each of them in one sentence what we might do about it before the year ends. "
)


class Question(msgspec.Struct, frozen=True):
    """One HTTP request, cut in two where its serial number goes."""

    head: bytes
    tail: bytes

    def numbered(self, serial: int) -> bytes:
        """The whole request with its twelve-digit serial number."""
        return b"%b%0*d%b" % (self.head, SERIAL_DIGITS, serial, self.tail)


def fresh_serial() -> int:
    """A serial number larger than any given out before, as long as fewer than a million are used per second."""
    return time.time_ns() // 1000 % SERIALS


def chat(size: int, messages: int, *, stream: bool = False) -> Question:
    """A chat completion with a body of about `size` bytes spread over `messages` turns, the serial in the last one."""
    share = (size - 80) // messages - 35
    prose = (_PROSE * (share // len(_PROSE) + 1))[:share]
    turns = [{"role": ("user", "assistant")[i % 2], "content": prose} for i in range(messages - 1)]
    turns[0]["role"] = "system"
    turns.append({"role": "user", "content": f"Invoice {_SERIAL}. {prose}"[:share]})
    body = msgspec.json.encode({"model": MODEL, "temperature": 0, "stream": stream, "messages": turns})
    message = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nuser-agent: farthing-benchmark\r\n"
        b"accept: application/json\r\nauthorization: Bearer sk-bench\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )
    head, _, tail = message.rpartition(_SERIAL.encode())
    return Question(head, tail)


CHAT_1K = chat(1024, 2)
CHAT_128K = chat(128 * 1024, 62)
STREAM_1K = chat(1024, 2, stream=True)
