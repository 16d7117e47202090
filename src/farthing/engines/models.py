"""The models of one engine: loaded by name within a limit of memory, and again when their folder changes."""

import asyncio
import difflib
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from farthing.engines.artefacts import read_manifest
from farthing.engines.batching import Batcher, Rules
from farthing.engines.onnx import Model
from farthing.engines.scoring import Item, Scored, score
from farthing.errors import ConfigError, Unavailable, UnknownModel
from farthing.schema.artefact import MANIFEST, MODEL, TOKENIZER

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often, at most, a model's folder is looked at for a newer version, and only while it is used."""

MB: Final = 1_000_000

Look = tuple[tuple[int, int, int], ...]
"""What a folder looks like from outside: size, time of change and number of each file."""


class Keeping(msgspec.Struct, frozen=True):
    """How models are kept: in `memory_mb` in all (0: no limit), those in `pinned` always."""

    memory_mb: int = 0
    pinned: tuple[str, ...] = ()


class Loaded:
    """A model in memory, and the queue of those who ask it; `label_tokens` is how many tokens each label comes to."""

    def __init__(self, model: Model, folder: Path, look: Look, rules: Rules) -> None:
        self.model = model
        self.folder = folder
        self.look = look
        self.looked_at = 0.0
        self.refused: Look = ()
        self.label_tokens = [model.tokens.count(label) for label in model.artefact.labels]
        self.batcher: Batcher[Item, Scored] = Batcher(partial(score, model), rules, model.artefact.name)


class Models:
    """Models by name. Those used last stay in memory; hot reload happens behind the callers' backs."""

    def __init__(self, folders: Iterable[Path], keeping: Keeping, rules: Rules) -> None:
        """Verify and load what fits, pinned models first. Raises ConfigError when a folder cannot be served."""
        self._keeping = keeping
        self._rules = rules
        self._folders = folders_by_name(folders)
        self._loaded: dict[str, Loaded] = {}
        self._loading: dict[str, asyncio.Task[Loaded]] = {}
        self._reloading: dict[str, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.problems: dict[str, str] = {}
        self._ready = self._first()

    def names(self) -> list[str]:
        """The models there are, loaded or not."""
        return list(self._folders)

    def in_memory(self) -> list[str]:
        """The models that are loaded, the one used last at the end."""
        return [*self._ready, *self._loaded]

    async def find(self, name: str) -> Loaded:
        """A model, loaded if it is not.

        Raises UnknownModel, with the nearest name; ConfigError when it cannot be loaded; Unavailable when there is no
        room for it.
        """
        loaded = self._loaded.pop(name, None)
        while loaded is None or loaded.batcher.closed:  # another may take its place before this one is told
            loaded = await self._load(name)
        self._loaded.pop(name, None)
        self._loaded[name] = loaded  # used last
        now = asyncio.get_running_loop().time()
        if now - loaded.looked_at >= LOOK_SECONDS:
            loaded.looked_at = now
            self._look_again(name, loaded)
        return loaded

    async def close(self) -> None:
        """Answer what waits, and unload everything."""
        for task in (*self._loading.values(), *self._reloading.values()):
            task.cancel()
        for loaded in self._loaded.values():
            self._retire(loaded)
        self._loaded.clear()
        while self._closing:
            await asyncio.gather(*self._closing)

    def _first(self) -> dict[str, tuple[Model, Look]]:
        """What is loaded before anyone asks: the pinned models, then as many as fit; all are verified."""
        if strange := [name for name in self._keeping.pinned if name not in self._folders]:
            raise ConfigError(f'There is no model "{strange[0]}" to be pinned.', hint=_near(strange[0], self._folders))
        limit, used = self._keeping.memory_mb * MB, 0
        ready: dict[str, tuple[Model, Look]] = {}
        for name in sorted(self._folders, key=lambda name: name not in self._keeping.pinned):
            look = _look(self._folders[name])
            model = Model.load(self._folders[name])
            if limit and used + model.size > limit:
                if name in self._keeping.pinned or model.size > limit:
                    raise ConfigError(_no_room(name, model.size, limit), hint=_MORE_MEMORY)
                continue
            used += model.size
            ready[name] = (model, look)
        return ready

    async def _load(self, name: str) -> Loaded:
        folder = self._folders.get(name)
        if folder is None:
            raise UnknownModel(f'There is no model "{name}" here.', hint=_near(name, self._folders))
        if name in self._ready:
            model, look = self._ready.pop(name)
            return self._keep(name, Loaded(model, folder, look, self._rules))
        task = self._loading.get(name)
        if task is None:
            task = self._loading[name] = asyncio.create_task(self._load_now(name, folder))
            task.add_done_callback(lambda _: self._loading.pop(name, None))
        return await asyncio.shield(task)

    async def _load_now(self, name: str, folder: Path) -> Loaded:
        look = _look(folder)
        model = await asyncio.to_thread(Model.load, folder)
        self._make_room(name, model.size)
        return self._keep(name, Loaded(model, folder, look, self._rules))

    def _keep(self, name: str, loaded: Loaded) -> Loaded:
        loaded.looked_at = asyncio.get_running_loop().time()
        self._loaded[name] = loaded
        return loaded

    def _make_room(self, name: str, size: int) -> None:
        """Unload what was used longest ago, until a model fits. Raises Unavailable when pinned ones are in the way."""
        limit = self._keeping.memory_mb * MB
        if not limit:
            return
        sizes = {other: loaded.model.size for other, loaded in self._loaded.items() if other != name}
        sizes |= {other: model.size for other, (model, _) in self._ready.items()}
        over = sum(sizes.values()) + size - limit
        leaving = []
        for other in [*self._ready, *self._loaded]:
            if over <= 0:
                break
            if other in sizes and other not in self._keeping.pinned:
                over -= sizes[other]
                leaving.append(other)
        if over > 0:
            raise Unavailable(_no_room(name, size, limit), hint=_MORE_MEMORY)
        for other in leaving:
            self._ready.pop(other, None)
            if loaded := self._loaded.pop(other, None):
                self._retire(loaded)

    def _retire(self, loaded: Loaded) -> None:
        """Let a model answer what it was asked, then go."""
        task = asyncio.get_running_loop().create_task(loaded.batcher.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # -- hot reload

    def _look_again(self, name: str, loaded: Loaded) -> None:
        look = _look(loaded.folder)
        if look in (loaded.look, loaded.refused) or name in self._reloading:
            return
        task = self._reloading[name] = asyncio.create_task(self._reload(name, loaded, look))
        task.add_done_callback(lambda _: self._reloading.pop(name, None))

    async def _reload(self, name: str, loaded: Loaded, look: Look) -> None:
        """Put a newer version in the place of a model, or keep the old one and say why."""
        try:
            model = await asyncio.to_thread(Model.load, loaded.folder)
            if model.artefact.name != name:
                raise ConfigError(f'{loaded.folder} now holds a model of another name, "{model.artefact.name}".')
            self._make_room(name, model.size)
        except (ConfigError, Unavailable) as error:
            loaded.refused = look
            self.problems[name] = error.message
            log.error("%s: a newer version was not loaded, and the old one goes on answering. %s", name, error)
            return
        self.problems.pop(name, None)
        if self._loaded.get(name) is loaded:
            self._keep(name, Loaded(model, loaded.folder, look, self._rules))
            self._retire(loaded)
            log.info("%s: a newer version, made %s, answers from now on.", name, model.artefact.created or "some time")


def folders_by_name(folders: Iterable[Path]) -> dict[str, Path]:
    """Folders by the names of their models. Raises ConfigError when two have one name, or one is no artefact."""
    found: dict[str, Path] = {}
    for folder in folders:
        name = read_manifest(folder).name
        if name in found:
            raise ConfigError(
                f'{found[name]} and {folder} both hold a model named "{name}".',
                hint=f"Leave one out, or change the name in {MANIFEST}.",
            )
        found[name] = folder
    return found


_MORE_MEMORY: Final = "Raise `memory_mb`, pin fewer models, or serve them on another machine."


def _no_room(name: str, size: int, limit: int) -> str:
    return f"The model {name} takes {size / MB:.1f} MB, and there is no room for it in the {limit / MB:.0f} MB allowed."


def _near(name: str, known: Iterable[str]) -> str:
    names: Sequence[str] = list(known)
    near = difflib.get_close_matches(name, names, 1)
    return f'Did you mean "{near[0]}"?' if near else f"There are: {', '.join(names)}."


def _look(folder: Path) -> Look:
    found = []
    for name in (MANIFEST, MODEL, TOKENIZER):
        try:
            stat = (folder / name).stat()
        except OSError:
            found.append((-1, 0, 0))
        else:
            found.append((stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(found)
