"""HTTP headers as they travel."""

Headers = tuple[tuple[bytes, bytes], ...]
"""Lower-case names and raw values, as in ASGI."""
