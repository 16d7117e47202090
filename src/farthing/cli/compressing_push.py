"""`farthing compress push`: copy a model to where it is served from, with proof."""

import re
from pathlib import Path

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.compressing_needs import needing
from farthing.cli.render import answer
from farthing.errors import ConfigError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_UPLOADERS = {
    "s3": "aws s3 sync DIR TARGET",
    "gs": "gcloud storage rsync -r DIR TARGET",
    "hf": "hf upload OWNER/NAME DIR",
}
"""What copies a folder to places that are not folders; the copy is proven by whoever serves it."""


class Pushed(msgspec.Struct, frozen=True):
    """What was copied, and to where."""

    model: str
    folder: str
    files: dict[str, str]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("target")
@verb
def command(asked: Asked, folder: Path, target: str) -> None:
    """Copy the model in DIR to the folder TARGET, such as one that gateways mount, and read it there again.

    TARGET is replaced as a whole, and only if it is a model too; a gateway that serves it takes the new one without a
    restart. Every file is checked by its SHA-256 on both sides.
    """
    if _ADDRESS.match(target):
        scheme = target.partition(":")[0].lower()
        raise ConfigError(
            f"{target} is an address, and push copies to folders.",
            hint=f"Use `{_UPLOADERS.get(scheme, 'your own tool for it')}`; gateways verify what they load.",
        )
    with needing("engine"):
        from farthing.compress.artefact import copy_artefact
    artefact = copy_artefact(folder, Path(target))
    answer(asked, "farthing.compress.push/1", Pushed(artefact.name, target, artefact.files), _in_words)


def _in_words(pushed: Pushed) -> str:
    return f"{pushed.folder}: {pushed.model}, {len(pushed.files)} files, every SHA-256 is right"
