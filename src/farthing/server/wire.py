"""Bytes of HTTP/1.1 answers."""

from http import HTTPStatus

from farthing.schema import PICO_PER_USD, Exchange, Headers, Reply

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
WITHHELD = frozenset(
    (b"set-cookie", b"alt-svc", b"strict-transport-security", b"server", b"date",
     b"x-farthing-call", b"x-farthing-cache", b"x-farthing-cost")
)  # fmt: skip
"""Headers of a provider's answer that are about its own connection or site, or that only this gateway may say."""


def status_line(status: int) -> bytes:
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


def header_lines(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers if header[0] not in WITHHELD])


def dollars(amount: int) -> bytes:
    """Pico-dollars as plain decimal dollars, exactly.

    >>> dollars(31_250_000), dollars(0), dollars(2 * 10**12)
    (b'0.00003125', b'0', b'2')
    """
    whole, fraction = divmod(amount, PICO_PER_USD)
    if not fraction:
        return b"%d" % whole
    return (b"%d.%012d" % (whole, fraction)).rstrip(b"0")


def receipt_lines(exchange: Exchange, reply: Reply) -> bytes:
    """The response headers that say what a call cost: its id, the cache's verdict, dollars paid."""
    lines = b"x-farthing-call: %b\r\n" % exchange.id.encode()
    for decision in exchange.decisions:
        if decision.lever == "exact_cache":
            lines += b"x-farthing-cache: %b\r\n" % decision.verdict.encode()
            break
    if not exchange.attempts:
        return lines + b"x-farthing-cost: 0\r\n"
    if reply.charge is not None and reply.charge.amount is not None:
        return lines + b"x-farthing-cost: %b\r\n" % dollars(reply.charge.amount)
    return lines + b"x-farthing-cost: unknown\r\n"
