"""What a recorded exchange was about: the user's last words."""

import msgspec

from farthing.schema import Recorded


class _Message(msgspec.Struct):
    role: str = ""
    content: object = None


class _Asked(msgspec.Struct):
    """What the wire formats call the texts asked about: messages, input (responses, embeddings) or prompt."""

    messages: list[_Message] = []
    input: object = None
    prompt: object = None


_ASKED = msgspec.json.Decoder(_Asked)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def asked(recorded: Recorded) -> str:
    """The last user message of an exchange; empty where its body was not recorded or holds no text."""
    try:
        body = _ASKED.decode(recorded.request)
    except _UNREADABLE:
        return ""
    if body.messages:
        return next((_text(message.content) for message in reversed(body.messages) if message.role == "user"), "")
    if isinstance(body.input, list):
        said = [part for part in body.input if isinstance(part, dict) and part.get("role") == "user"]
        return _text(said[-1].get("content")) if said else ""
    return _text(body.input) or _text(body.prompt)


def _text(content: object) -> str:
    """The text of a message, whether it stands alone or in parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict))
    return "\n".join(text for text in texts if isinstance(text, str))
