"""The stage that answers GET /v1/models from the routes, without asking anyone."""

from collections.abc import Sequence

from farthing import dialects
from farthing.errors import UnknownModel
from farthing.gateway.refusal import JSON
from farthing.ports import Outlet
from farthing.schema import Exchange, Reply


class Catalogue:
    """Lists the models that can be asked for: (name, upstream) pairs."""

    def __init__(self, models: Sequence[tuple[str, str]], created: int) -> None:
        self._models = dict(models)
        self._created = created

    async def __call__(self, exchange: Exchange, outlet: Outlet | None) -> Exchange:
        call = exchange.call
        if call.endpoint != "models":
            return exchange
        dialect: dialects.Dialect = (
            "anthropic" if any(name == b"anthropic-version" for name, _ in call.headers) else "openai"
        )
        if not call.model:
            body = dialects.models_body(dialect, list(self._models.items()), self._created)
        elif call.model in self._models:
            body = dialects.model_body(dialect, call.model, self._models[call.model], self._created)
        else:
            raise UnknownModel(f'The model "{call.model}" is not in this gateway\'s list.', hint="See GET /v1/models.")
        return exchange.answered(Reply(status=200, body=body, headers=JSON))
