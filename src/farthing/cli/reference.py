"""Writes the reference pages from the settings and the verbs: `python -m farthing.cli.reference docs/reference`."""

import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import get_args

import click
import msgspec

from farthing.cli.verbs import root
from farthing.config import Settings
from farthing.config.rendering import in_toml
from farthing.config.shape import Kind, expected, fields, is_rows, is_table

MARK = "<!-- What follows is written by `python -m farthing.cli.reference docs/reference`. -->\n"
HELP_WIDTH = 100


def configuration() -> str:
    """Every setting, by table: what it may be, its default, its variable."""
    return "\n".join(line for name, field in fields(Settings).items() for line in _table(name, field.type))


def command_line() -> str:
    """Every verb, as its --help says it."""
    return "\n".join(_helps(root, "farthing", None))


def refresh(folder: Path) -> None:
    """Write both pages anew below their marks."""
    for name, text in (("configuration.md", configuration()), ("cli.md", command_line())):
        page = folder / name
        page.write_text(page.read_text("utf-8").partition(MARK)[0] + MARK + "\n" + text, "utf-8")


def _table(name: str, kind: Kind) -> Iterator[str]:
    if is_table(kind):
        inner, header, variable = kind, f"[{name}]", f"FARTHING__{name.upper()}__"
    elif is_rows(kind):
        inner, header, variable = get_args(kind)[0], f"[[{name}]]", ""
    else:
        inner, header, variable = get_args(kind)[1], f"[{name}.NAME]", f"FARTHING__{name.upper()}__NAME__"
    yield f"## `{header}`\n"
    yield cleandoc(inner.__doc__ or "") + "\n"
    yield "| setting | what it may be | default | variable |"
    yield "|---|---|---|---|"
    for key, field in fields(inner).items():
        given = f"`{variable}{key.upper()}`" if variable else "file only"
        yield f"| `{key}` | {expected(field.type)} | {_default(field)} | {given} |"
    yield ""


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "must be given"
    return "that of the cache" if field.default is None else f"`{in_toml(field.default)}`"


def _helps(command: click.Command, path: str, parent: click.Context | None) -> Iterator[str]:
    name = path.rsplit(maxsplit=1)[-1]
    context = click.Context(command, parent, info_name=name, terminal_width=HELP_WIDTH, **command.context_settings)
    yield f"## `{path}`\n"
    yield f"```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if below := command.get_command(context, name):
                yield from _helps(below, f"{path} {name}", context)


if __name__ == "__main__":
    refresh(Path(sys.argv[1]))
