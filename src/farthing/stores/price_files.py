"""Price books on disk: the packaged one, the user's overrides, and an archive of every edition that was used."""

import os
import re
from importlib import resources
from pathlib import Path
from tempfile import NamedTemporaryFile

from farthing.errors import ConfigError, PriceError
from farthing.pricing import PriceBook

_VERSION = re.compile(r"\d{4}-\d\d-\d\d\+[0-9a-f]{8}")


def packaged_book() -> PriceBook:
    """The book that came with Farthing; raises ConfigError when the installation lacks it."""
    file = resources.files("farthing.pricing") / "data" / "book.json"
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(
            f"The price book is missing from the installation ({file}).",
            hint="Reinstall Farthing; in a checkout, run `python hatch_build.py`.",
        ) from error
    return PriceBook.decode(data)


def current_book(overrides: str = "") -> PriceBook:
    """The packaged book with the user's rows on top, from the TOML file `overrides` if it is given.

    Raises ConfigError when that file cannot be read, or names what is wrong in it.
    """
    book = packaged_book()
    if not overrides:
        return book
    try:
        text = Path(overrides).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The price file {overrides} cannot be read: {error}.", hint="Correct prices.overrides, or remove it."
        ) from error
    return book.with_overrides(text, overrides)


class PriceArchive:
    """Every edition that charges were made with, as `<directory>/<version>.json`, so that any can be made again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, book: PriceBook) -> Path:
        """Store an edition, whole or not at all, and say where; does nothing when it is there already.

        Raises ConfigError when the directory cannot be written.
        """
        path = self._path(book.version)
        if not path.exists():
            try:
                self._write(path, book.encode())
            except OSError as error:
                raise ConfigError(
                    f"The price edition {book.version} cannot be kept in {self._directory}: {error}.",
                    hint="Make the directory writable, or set ledger.path to one that is.",
                ) from error
        return path

    def edition(self, version: str) -> PriceBook:
        """The edition of that version; raises PriceError when it was never kept, ConfigError when it is damaged."""
        path = self._path(version)
        try:
            data = path.read_bytes() if _VERSION.fullmatch(version) else None
        except FileNotFoundError:
            data = None
        if data is None:
            kept = ", ".join(self.versions()) or "none"
            raise PriceError(
                f"The price edition {version!r} is not in {self._directory}.",
                hint=f"Restore it from a backup; kept are: {kept}.",
            )
        book = PriceBook.decode(data)
        if book.version != version:
            raise ConfigError(f"{path} is damaged: it holds {book.version}.", hint="Restore it from a backup.")
        return book

    def versions(self) -> list[str]:
        """The versions that are kept, by date."""
        return sorted(path.stem for path in self._directory.glob("*.json") if _VERSION.fullmatch(path.stem))

    def _path(self, version: str) -> Path:
        return self._directory / f"{version}.json"

    def _write(self, path: Path, data: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=self._directory, prefix=".edition-", delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except OSError:
                os.unlink(file.name)
                raise
