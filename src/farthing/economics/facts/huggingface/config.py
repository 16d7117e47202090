"""A config.json as published with a model: typed access, with errors that name the model, the field and its value."""

from collections.abc import Mapping
from typing import NamedTuple

from farthing.errors import RequestError

MOST = 10**12
"""No field of a config.json that describes a shape is larger."""


class Layers(NamedTuple):
    """How many layers attend in which way."""

    full: int
    window: int = 0
    linear: int = 0


class Config:
    """The fields of a config.json, of the model called `model`."""

    def __init__(self, model: str, data: Mapping[str, object]) -> None:
        self.model = model
        self._data = data

    def wrong(self, problem: str, hint: str = "Compare with the config.json its maker publishes.") -> RequestError:
        """A RequestError about this config."""
        return RequestError(f"The config.json of {self.model} {problem}.", hint=hint)

    def has(self, key: str) -> bool:
        """Whether a field says anything."""
        return self._data.get(key) is not None

    def count(self, *keys: str, default: int | None = None, least: int = 1) -> int:
        """A whole number of `least` or more under the first of `keys` that is there."""
        for key in keys:
            value = self._data.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
                raise self.wrong(f"has {key} = {_shown(value)}, where a whole number of {least} or more belongs")
            return value
        if default is None:
            raise self.wrong(f"lacks {' or '.join(keys)}")
        return default

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self._data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(f"has {key} = {_shown(value)}, where true or false belongs")
        return value

    def text(self, *keys: str, default: str = "") -> str:
        """A text under the first of `keys` that is there."""
        for key in keys:
            value = self._data.get(key)
            if value is None:
                continue
            if not isinstance(value, str):
                raise self.wrong(f"has {key} = {_shown(value)}, where a text belongs")
            return value
        return default

    def items(self, key: str) -> tuple[object, ...]:
        """The items of a list; none where there is no list."""
        value = self._data.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self.wrong(f"has {key} = {_shown(value)}, where a list belongs")
        return tuple(value)

    def part(self, key: str) -> "Config | None":
        """The fields within a field, where there are any."""
        value = self._data.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong(f"has {key} = {_shown(value)}, where fields belong")
        return Config(self.model, value)

    def first(self, *keys: str) -> object:
        """What the first of `keys` says, of any type; None where none says anything."""
        return next((value for key in keys if (value := self._data.get(key)) is not None), None)

    def keys(self) -> tuple[str, ...]:
        """The names of its fields."""
        return tuple(map(str, self._data))

    def texts_within(self, key: str) -> tuple[str, ...]:
        """The texts under `key` in each of its fields that has fields itself."""
        parts = (item for item in self._data.values() if isinstance(item, Mapping))
        return tuple(text for part in parts if isinstance(text := part.get(key), str))

    def over(self, base: "Config") -> "Config":
        """These fields, and where they are silent those of `base`."""
        return Config(self.model, {**base._data, **{key: item for key, item in self._data.items() if item is not None}})

    def layers(self, total: int, pattern: Layers | None = None) -> Layers:
        """How `total` layers attend, from `layer_types` where it is given and else as `pattern` says."""
        kinds = self.items("layer_types")
        if not kinds:
            return pattern or Layers(total)
        if len(kinds) < total:
            raise self.wrong(f"has {len(kinds)} layer_types for {total} layers")
        known = {"full_attention": 0, "sliding_attention": 1, "chunked_attention": 1, "linear_attention": 2}
        counts = [0, 0, 0]
        for kind in kinds[:total]:
            if not isinstance(kind, str) or kind not in known:
                raise self.wrong(f"has a layer of type {_shown(kind)}", f"Known are {', '.join(known)}.")
            counts[known[kind]] += 1
        return Layers(*counts)


def every(period: int, total: int) -> Layers:
    """Layers of which each `period`th keeps the whole context, and the others a window."""
    full = total // period
    return Layers(full, total - full)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
