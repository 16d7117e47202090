"""Progress: how a run tells what it is doing."""

from typing import Protocol


class Progress(Protocol):
    """Whoever wants to know how a run goes. None of its methods raises, and none takes long."""

    def stage(self, name: str) -> None:
        """A stage begins: "labels", "teacher", "search", "pool", "1-distil" and so on, "measure", "test"."""
        ...

    def step(self, done: int, total: int, **figures: float) -> None:
        """So many steps of the stage's `total` are done; the figures are the latest, such as epoch, loss and dev."""
        ...

    def note(self, text: str) -> None:
        """Something a person should know: a warning, a stage that was kept from an earlier run."""
        ...


class Silence:
    """Nobody wants to know."""

    def stage(self, name: str) -> None:
        """Nothing."""

    def step(self, done: int, total: int, **figures: float) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
