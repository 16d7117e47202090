"""The composition root: the only package that knows who is who."""

from farthing.wiring.parts import keyring_of, pipeline_of, policy_of, sources_of, upstreams_of
from farthing.wiring.serving import Running, ledger_path, running, serve

__all__ = [
    "Running",
    "keyring_of",
    "ledger_path",
    "pipeline_of",
    "policy_of",
    "running",
    "serve",
    "sources_of",
    "upstreams_of",
]
