"""Writes the reference pages from settings, verbs and jobs: `python -m farthing.cli.reference docs/reference`."""

import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from farthing.cli.verbs import root
from farthing.compress import parsing
from farthing.compress.generative.job import GenerativeJob
from farthing.compress.job import Job
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


def compress_job() -> str:
    """Every key of a job of compression, by table: what it may be and its default; encoders first, then decoders."""
    encoders = _sections(Job, "", "## Encoders")
    decoders = _sections(GenerativeJob, "", '## Decoders: `task = "generation"`')
    return "\n".join(dict.fromkeys((*encoders, *decoders)))


def refresh(folder: Path) -> None:
    """Write all pages anew below their marks."""
    pages = {"configuration.md": configuration, "cli.md": command_line, "compress-job.md": compress_job}
    for name, text in ((name, write()) for name, write in pages.items()):
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


def _sections(record: type[msgspec.Struct], path: str, title: str) -> Iterator[str]:
    """What is said of a record of a job, and then of those within it."""
    lines = [f"{title}\n", cleandoc(record.__doc__ or "") + "\n", "| key | what it may be | default |", "|---|---|---|"]
    below = list[tuple[type[msgspec.Struct], str, str]]()
    for field in msgspec.structs.fields(record):
        inside, name = f"{path}.{field.encode_name}".lstrip("."), field.encode_name
        records = list(_records(field.type))
        for one in records:
            tag = one.__struct_config__.tag
            below.append((one, inside, f'### `[[{inside}]]` with `kind = "{tag}"`' if tag else f"### `[{inside}]`"))
        if not records:
            lines.append(f"| `{name}` | {parsing.expected(field.type)} | {_default_of_job(field)} |")
    yield "\n".join([*lines, ""])
    for one, inside, header in below:
        yield from _sections(one, inside, header)


def _records(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """The records that a value of a type is or holds."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for inner in get_args(kind):
        yield from _records(inner)


def _default_of_job(field: msgspec.structs.FieldInfo) -> str:
    return "must be given" if field.required else f"`{in_toml(field.default)}`"


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
