"""The answer to GET /v1/models, in either dialect."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from farthing.schema import Dialect


def models_body(dialect: Dialect, models: Sequence[tuple[str, str]], created: int) -> bytes:
    """The list of `models`, each an id and who owns it, all created at one Unix time in seconds."""
    listed = [_model(dialect, name, owner, created) for name, owner in models]
    if dialect == "anthropic":
        ends = {"first_id": models[0][0], "last_id": models[-1][0]} if models else {"first_id": None, "last_id": None}
        return msgspec.json.encode({"data": listed, "has_more": False, **ends})
    return msgspec.json.encode({"object": "list", "data": listed})


def model_body(dialect: Dialect, name: str, owner: str, created: int) -> bytes:
    """One model, as GET /v1/models/{id} answers it."""
    return msgspec.json.encode(_model(dialect, name, owner, created))


def _model(dialect: Dialect, name: str, owner: str, created: int) -> dict[str, object]:
    if dialect == "anthropic":
        since = datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z")
        return {"type": "model", "id": name, "display_name": name, "created_at": since, "lifecycle": "active"}
    return {"id": name, "object": "model", "created": created, "owned_by": owner}
