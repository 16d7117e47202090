"""Whose call it is: gateway keys by digest, so that no secret is kept or compared in the open."""

from collections.abc import Mapping

from blake3 import blake3

from farthing.errors import Unauthorized
from farthing.schema import Caller


def fingerprint(secret: bytes) -> bytes:
    """The digest by which a key is known: keys are random, so a fast hash is enough and lookups leak no prefix."""
    return blake3(secret).digest()


class Keyring:
    """Gateway keys and the callers they stand for. Without any, every caller is let in as it is."""

    def __init__(self, keys: Mapping[str, tuple[str, Caller]]) -> None:
        """`keys` maps a key's name to its secret and the caller it vouches for."""
        self._callers = {fingerprint(secret.encode()): caller for secret, caller in keys.values()}

    @property
    def authenticates(self) -> bool:
        """Whether callers must bring a key."""
        return bool(self._callers)

    def identify(self, credential: bytes) -> Caller:
        """The caller a credential stands for.

        Raises Unauthorized when keys are configured and this is none of them. Without keys, the caller is known by
        the fingerprint of whatever credential it brought for the provider.
        """
        if not self._callers:
            return Caller(key=f"own-{fingerprint(credential).hex()[:12]}") if credential else Caller()
        if not credential:
            raise Unauthorized(
                "This gateway needs one of its own keys and the request carried none.",
                hint='Send "Authorization: Bearer KEY" (or "x-api-key: KEY") with a key from its [keys] configuration.',
            )
        caller = self._callers.get(fingerprint(credential))
        if caller is None:
            raise Unauthorized(
                "The key sent with this request is not one of this gateway's keys.",
                hint="Provider keys stay in the gateway's configuration; callers use the keys listed under [keys].",
            )
        return caller
