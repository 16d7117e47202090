"""Where a gateway listens: how to point applications there, and why it cannot."""

from errno import EADDRINUSE

from farthing.errors import ConfigError


def pointers(url: str) -> str:
    """How to point an application on this machine at a gateway."""
    url = url.replace("//0.0.0.0:", "//127.0.0.1:")
    return f"  OPENAI_BASE_URL={url}/v1\n  ANTHROPIC_BASE_URL={url}\n  dashboard: {url}/"


def cannot_serve(address: str, error: OSError) -> ConfigError:
    """What to tell a person when the system refuses an address."""
    why = "another program listens there" if error.errno == EADDRINUSE else error.strerror or str(error)
    hint = "Choose another port with --port, or `farthing doctor` to find out more."
    return ConfigError(f"cannot serve at {address}: {why}", hint=hint)
