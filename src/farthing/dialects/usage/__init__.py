"""What each family of providers reports, in buckets that never overlap."""

from farthing.dialects.usage.anthropic import merged, messages_usage
from farthing.dialects.usage.openai import completion_report, completion_usage
from farthing.dialects.usage.reports import Given, Tally
from farthing.dialects.usage.responses import response_usage

__all__ = ["Given", "Tally", "completion_report", "completion_usage", "merged", "messages_usage", "response_usage"]
