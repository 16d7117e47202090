"""What each family of providers reports, in buckets that never overlap."""

from farthing.dialects.usage.anthropic import MessageReport, merged, message_tally, messages_usage
from farthing.dialects.usage.openai import CompletionReport, completion_report, completion_usage, plain_usage
from farthing.dialects.usage.reports import Given, Tally
from farthing.dialects.usage.responses import response_usage

__all__ = [
    "CompletionReport",
    "Given",
    "MessageReport",
    "Tally",
    "completion_report",
    "completion_usage",
    "merged",
    "message_tally",
    "messages_usage",
    "plain_usage",
    "response_usage",
]
