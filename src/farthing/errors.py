"""Every error Farthing raises on purpose: one tree, each class with its HTTP status and its exit code.

FarthingError
├── ConfigError            the configuration, policy or price file cannot be used        500 / exit 2
├── TrafficError           a recorded traffic file cannot be read                        400 / exit 2
├── Unavailable            not now: overloaded, or what it takes cannot be reached       503 / exit 4
│   ├── LedgerError        the ledger is damaged, locked or not writable                 503
│   └── StoreError         a shared store does not answer, or not as it should           503
├── PriceError             a price was asked for that no dated row answers               422 / exit 3
├── RequestError           the caller's request cannot be served                         400 / exit 2
│   ├── Unauthorized       no key, or one that is not known                              401
│   ├── BudgetExceeded     its worst case does not fit into a budget                     402
│   ├── Forbidden          its key may not do this                                       403
│   ├── UnknownEndpoint    no such path or method                                        404
│   ├── UnknownModel       no upstream serves this model on this endpoint                404
│   ├── UnknownCall        the ledger holds no such call                                 404
│   ├── Conflict           its Idempotency-Key stands for another request                409
│   ├── TooLarge           the body or a header exceeds its limit                        413
│   └── RateLimited        more calls or tokens than its rate limit allows               429
└── UpstreamError          the provider did not give a usable answer                     502 / exit 1
    ├── UpstreamUnreachable    refused, DNS, TLS, or reset before any answer             502
    ├── UpstreamTimeout        connect, stall or total deadline passed                   504
    └── UpstreamGarbage        the answer breaks its own protocol                        502
"""

from collections.abc import Mapping
from typing import ClassVar


class FarthingError(Exception):
    """An expected failure that says who, what, how much, and what to do.

    `message` is one sentence for people; `hint` says what to do about it; `code` is the stable name that
    clients, entries and metrics carry; `facts` are the figures behind it, for programs. `retry_after` is in how many
    seconds the same request may succeed, `None` when waiting does not help or is not known to.
    """

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        facts: Mapping[str, str | int | float | bool | None] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = dict(facts or {})
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(FarthingError):
    exit_code = 2
    code = "config_error"


class TrafficError(FarthingError):
    status = 400
    exit_code = 2
    code = "traffic_error"


class Unavailable(FarthingError):
    status = 503
    exit_code = 4
    code = "unavailable"


class LedgerError(Unavailable):
    code = "ledger_error"


class StoreError(Unavailable):
    code = "store_unavailable"


class PriceError(FarthingError):
    status = 422
    exit_code = 3
    code = "price_missing"


class RequestError(FarthingError):
    status = 400
    exit_code = 2
    code = "invalid_request"


class Unauthorized(RequestError):
    status = 401
    code = "invalid_api_key"


class BudgetExceeded(RequestError):
    status = 402
    code = "budget_exceeded"


class Forbidden(RequestError):
    status = 403
    code = "forbidden"


class UnknownEndpoint(RequestError):
    status = 404
    code = "unknown_endpoint"


class UnknownModel(RequestError):
    status = 404
    code = "model_not_found"


class UnknownCall(RequestError):
    status = 404
    code = "call_not_found"


class Conflict(RequestError):
    status = 409
    code = "idempotency_conflict"


class TooLarge(RequestError):
    status = 413
    code = "request_too_large"


class RateLimited(RequestError):
    status = 429
    code = "rate_limited"


class UpstreamError(FarthingError):
    status = 502
    code = "upstream_error"


class UpstreamUnreachable(UpstreamError):
    code = "upstream_unreachable"


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"


class UpstreamGarbage(UpstreamError):
    code = "upstream_garbage"
