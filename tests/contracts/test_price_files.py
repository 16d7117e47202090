"""Price books on disk: packaged, overridden, archived and read back."""

from pathlib import Path

import pytest

from farthing.errors import ConfigError, PriceError
from farthing.pricing import charge
from farthing.schema import Usage
from farthing.stores.price_files import PriceArchive, current_book, packaged_book

OVERRIDES = '[[price]]\nprovider = "openai"\nmodel = "gpt-6-sol"\ninput = 1.80\n'


def test_the_packaged_book_knows_prices() -> None:
    assert charge(
        packaged_book(), provider="openai", model="gpt-6-sol", tier=None, usage=Usage(input=1), at=0
    ).amount == 2_000_000  # fmt: skip


def test_no_overrides_is_the_packaged_book() -> None:
    assert current_book().version == packaged_book().version


def test_overrides_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(OVERRIDES)
    book = current_book(str(path))
    assert book.version != packaged_book().version
    assert charge(book, provider="openai", model="gpt-6-sol", tier=None, usage=Usage(input=1), at=0).amount == 1_800_000


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"[[price]]\nprovider = 'openai'\n"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "prices.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"prices\.toml"):
        current_book(str(path))


def test_an_edition_is_kept_and_makes_the_same_charges(tmp_path: Path) -> None:
    archive = PriceArchive(tmp_path / "ledger" / "prices")
    book = packaged_book().with_overrides(OVERRIDES, "prices.toml")
    path = archive.keep(book)
    assert path.name == f"{book.version}.json"
    again = archive.edition(book.version)
    usage = Usage(input=1000, cache_read=50, output=7, reasoning=3)
    for model in ("gpt-6-sol", "claude-haiku-5-5"):
        asked = {"provider": "", "model": model, "tier": "batch"}
        assert charge(again, **asked, usage=usage, at=10**18) == charge(book, **asked, usage=usage, at=10**18)


def test_keeping_again_changes_nothing_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    archive = PriceArchive(tmp_path)
    book = packaged_book()
    before = archive.keep(book).stat()
    assert archive.keep(book).stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in tmp_path.iterdir()] == [f"{book.version}.json"]
    assert archive.versions() == [book.version]


@pytest.mark.parametrize("version", ["2026-01-01+00000000", "", "../../etc/passwd", "2026-01-01+0000000/", "latest"])
def test_an_edition_that_was_never_kept(tmp_path: Path, version: str) -> None:
    archive = PriceArchive(tmp_path)
    archive.keep(packaged_book())
    with pytest.raises(PriceError) as caught:
        archive.edition(version)
    assert repr(version) in caught.value.message
    assert packaged_book().version in caught.value.hint


def test_a_version_is_never_a_path(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_bytes(packaged_book().encode())
    with pytest.raises(PriceError):
        PriceArchive(tmp_path / "prices").edition("../other")


def test_a_damaged_edition_is_not_believed(tmp_path: Path) -> None:
    archive = PriceArchive(tmp_path)
    book = packaged_book()
    path = archive.keep(book)
    path.write_bytes(path.read_bytes().replace(b'"input":2000000', b'"input":1000000'))
    with pytest.raises(ConfigError, match="damaged"):
        archive.edition(book.version)
    path.write_bytes(b"{")
    with pytest.raises(ConfigError, match="cannot be read"):
        archive.edition(book.version)


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be kept"):
        PriceArchive(tmp_path / "file" / "prices").keep(packaged_book())
