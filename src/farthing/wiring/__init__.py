"""The composition root: the only package that knows who is who."""

from farthing.wiring.parts import keyring_of, pipeline_of, policy_of, sources_of, upstreams_of
from farthing.wiring.replaying import Outcome, replay_into_ledger, replay_traffic
from farthing.wiring.serving import Running, ledger_path, running, serve

__all__ = [
    "Outcome",
    "Running",
    "keyring_of",
    "ledger_path",
    "pipeline_of",
    "policy_of",
    "replay_into_ledger",
    "replay_traffic",
    "running",
    "serve",
    "sources_of",
    "upstreams_of",
]
