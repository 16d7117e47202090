"""Bodies to calls, remembering large bodies that were read before."""

from collections import OrderedDict

import msgspec

from farthing import dialects
from farthing.caching import body_digest
from farthing.errors import RequestError
from farthing.schema import Call, Endpoint, Headers

SMALL_BODY = 4096
"""Up to this many bytes, reading a body costs no more than the digest by which it would be known."""

LONGEST_NAME = 256
"""Characters of a model's, a tier's or a time to live's name: they are remembered, and entered in the ledger."""

KNOWN_CALLS = 4096
"""Large calls remembered, without their bodies: about 500 bytes each."""


class CallReader:
    """Decodes requests; a large body that came before is known by its digest, and is not read again."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Call] = OrderedDict()

    def read(self, endpoint: Endpoint, body: bytes, *, method: str, path: str, headers: Headers) -> Call:
        """The call that a request makes. Raises RequestError for an endless name, and as `dialects.decode` does."""
        if len(body) <= SMALL_BODY:
            return _named(dialects.decode(endpoint, body, method=method, path=path, headers=headers))
        digest = body_digest(path, body)
        known = self._known.get(digest)
        if known is not None:
            return msgspec.structs.replace(known, body=body, headers=headers)
        call = _named(dialects.decode(endpoint, body, method=method, path=path, headers=headers))
        self._known[digest] = msgspec.structs.replace(call, body=b"", headers=(), digest=digest)
        if len(self._known) > KNOWN_CALLS:
            self._known.popitem(last=False)
        return msgspec.structs.replace(call, digest=digest)


def _named(call: Call) -> Call:
    longest = max(len(call.model), len(call.tier or ""), len(call.cache_ttl or ""))
    if longest > LONGEST_NAME:
        raise RequestError(f"The request holds a name of {longest} characters; the limit is {LONGEST_NAME}.")
    return call
