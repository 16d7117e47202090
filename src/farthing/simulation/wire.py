"""Writes a simulated answer, or a refusal, in the wire format of any endpoint."""

from farthing.schema import Endpoint, dialect_of
from farthing.simulation import anthropic_answers, openai_answers
from farthing.simulation.answers import Answer

_KINDS = {
    400: "invalid_request_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def plain(endpoint: Endpoint, answer: Answer) -> bytes:
    """The answer as one JSON body."""
    match endpoint:
        case "chat":
            return openai_answers.chat(answer)
        case "responses":
            return openai_answers.response(answer)
        case "messages":
            return anthropic_answers.message(answer)
        case "embeddings":
            return openai_answers.embeddings(answer)
        case "classify":
            return openai_answers.classification(answer)
        case "rerank":
            return openai_answers.ranking(answer)
        case "count_tokens":
            return anthropic_answers.token_count(answer.usage.input_tokens if answer.usage else 0)
        case "completions":
            return openai_answers.completion(answer)
        case "models" | "other":
            return openai_answers.models([answer.model], answer.mark)


def frames(endpoint: Endpoint, answer: Answer, include_usage: bool = True) -> list[bytes]:
    """The answer as server-sent events; `include_usage` matters to chat and completions only."""
    match endpoint:
        case "responses":
            return openai_answers.response_frames(answer)
        case "messages":
            return anthropic_answers.message_frames(answer)
        case "completions":
            return openai_answers.completion_frames(answer, include_usage)
        case _:
            return openai_answers.chat_frames(answer, include_usage)


def refusal(endpoint: Endpoint, status: int, message: str) -> bytes:
    """An error body in the shape of the endpoint's dialect."""
    kind = _KINDS.get(status, "api_error")
    if dialect_of(endpoint) == "anthropic":
        return anthropic_answers.error(message, kind)
    return openai_answers.error(message, kind, kind.removesuffix("_error"))
