"""Who may share an exact answer, and which answers are worth keeping."""

from farthing.schema import Call, Caller, Reply
from farthing.schema.policy import SharingRules

SHAREABLE_ENDPOINTS = frozenset(("chat", "responses", "embeddings", "completions", "messages", "classify", "rerank"))
UNFINISHED = frozenset(("embeddings", "classify", "rerank"))
"""Endpoints whose answers have no stop reason: they are whole or they fail."""
WHOLE = frozenset(("stop", "end_turn", "stop_sequence", "completed"))
TRUNCATED = frozenset(("length", "max_tokens", "max_output_tokens", "incomplete", "model_context_window_exceeded"))
TOOL_USE = frozenset(("tool_calls", "function_call", "tool_use"))


def scope_of(rules: SharingRules, caller: Caller, *, authenticated: bool) -> str:
    """The name of the group that shares answers with this caller.

    A tenant is only believed when a gateway key vouches for it; otherwise callers that brought different
    credentials (`Caller.key` is their fingerprint) never share.
    """
    if rules.scope == "all":
        return ""
    if rules.scope == "tenant" and authenticated:
        return f"t\0{caller.tenant}"
    return f"k\0{caller.tenant}\0{caller.key}"


def ineligible(rules: SharingRules, call: Call, *, route_cache: bool | None) -> str:
    """Why this call may not share an answer, or an empty string when it may."""
    if call.endpoint not in SHAREABLE_ENDPOINTS:
        return "endpoint"
    if not (rules.enabled if route_cache is None else route_cache):
        return "policy"
    if call.temperature is not None and call.temperature > rules.max_temperature:
        return "temperature"
    if call.has_tools and not rules.tools:
        return "tools"
    if call.stateful:
        return "stateful"
    return ""


def may_keep(rules: SharingRules, call: Call, reply: Reply) -> bool:
    """Whether an answer may be given again: whole, not an error, metered, and finished as the rules allow."""
    if not reply.ok or reply.status != 200 or not reply.body or reply.usage is None or reply.usage_source != "provider":
        return False
    if reply.finish in WHOLE or call.endpoint in UNFINISHED:
        return True
    if reply.finish in TRUNCATED:
        return rules.truncated
    return reply.finish in TOOL_USE and rules.tools
