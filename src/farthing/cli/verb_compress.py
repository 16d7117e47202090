"""`farthing compress`: make a small model that answers like a large one, and serve it."""

from importlib import import_module

import click

STEPS = {
    "demo": "Run the whole line on made-up texts.",
    "init": "Write a job file from examples or recorded traffic.",
    "run": "Run a job: teach, distil, prune, quantize, measure.",
    "report": "Show what a run made, stage by stage.",
    "compare": "Show two runs side by side.",
    "classify": "Label texts with a model that a run made.",
    "serve": "Serve a model that a run made.",
    "push": "Copy a model to where it is served from, with proof.",
    "drift": "Say whether small models still agree with the large ones.",
}
"""Each step and its one line of help."""


class Steps(click.Group):
    """A group that lists its steps without importing them; `x` is `command` in `farthing.cli.compressing_x`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(STEPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in STEPS:
            return None
        command: click.Command = import_module(f"farthing.cli.compressing_{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Steps"):
            formatter.write_dl(list(STEPS.items()))


@click.group(cls=Steps, subcommand_metavar="STEP [ARGS]...")
def command() -> None:
    """Make a small model that answers like a large one, from one job file, and serve it.

    Start with `farthing compress demo` or `farthing compress init`. Making models needs
    `pip install 'farthing[compress]'`, serving them `pip install 'farthing[engine]'`.
    """
