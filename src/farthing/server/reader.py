"""Bodies to calls, remembering large bodies that were read before."""

from collections import OrderedDict

import msgspec

from farthing import dialects
from farthing.caching import body_digest
from farthing.schema import Call, Endpoint, Headers

SMALL_BODY = 4096
"""Up to this many bytes, reading a body costs no more than the digest by which it would be known."""

KNOWN_CALLS = 4096
"""Large calls remembered, without their bodies: about 500 bytes each."""


class CallReader:
    """Decodes requests; a large body that came before is known by its digest, and is not read again."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Call] = OrderedDict()

    def read(self, endpoint: Endpoint, body: bytes, *, method: str, path: str, headers: Headers) -> Call:
        """The call that a request makes; see `farthing.dialects.decode` for what it raises."""
        if len(body) <= SMALL_BODY:
            return dialects.decode(endpoint, body, method=method, path=path, headers=headers)
        digest = body_digest(path, body)
        known = self._known.get(digest)
        if known is not None:
            return msgspec.structs.replace(known, body=body, headers=headers)
        call = dialects.decode(endpoint, body, method=method, path=path, headers=headers)
        self._known[digest] = msgspec.structs.replace(call, body=b"", headers=(), digest=digest)
        if len(self._known) > KNOWN_CALLS:
            self._known.popitem(last=False)
        return msgspec.structs.replace(call, digest=digest)
