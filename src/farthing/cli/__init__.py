"""The command line: each verb parses, calls and prints; what it does is done elsewhere."""

import os
import sys

import click

from farthing.cli.verbs import root
from farthing.errors import FarthingError

INTERRUPTED = 130


def main() -> int:
    """Run one command; what went wrong goes to stderr as a message and a hint, and becomes the exit status."""
    try:
        status = root.main(prog_name="farthing", standalone_mode=False)
        sys.stdout.flush()
    except FarthingError as error:
        return _refuse(error.message, error.hint, error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "farthing"
        return _refuse(error.format_message(), f"See `{path} --help`.", error.exit_code)
    except click.ClickException as error:
        return _refuse(error.format_message(), "", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain when it flushes the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status if isinstance(status, int) else 0


def _refuse(message: str, hint: str, status: int) -> int:
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    return status
