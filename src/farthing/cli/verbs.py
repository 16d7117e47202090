"""The verbs, each in a module of its own that is imported only when it is asked for."""

from difflib import get_close_matches
from importlib import import_module

import click

from farthing import __version__
from farthing.cli.asking import quietly, with_config

VERBS = {
    "demo": "Show what Farthing does, on simulated traffic: no key, no network.",
    "up": "Serve the gateway.",
    "key": "Make, list, revoke and rotate the keys that callers bring.",
    "report": "Say what was spent and saved, and on what.",
    "budget": "Show how budgets and rate limits stand.",
    "ledger": "Read, export, verify, re-rate and reconcile the ledger.",
    "prices": "Show the price book.",
    "plan": "Say what to run a model on, what it costs, how fast it is, when to move.",
    "compress": "Make a small model that answers like a large one, and serve it.",
    "replay": "Drive recorded traffic through the same pipeline, in virtual time.",
    "import": "Turn a traffic file of another format into ours.",
    "config": "Show and check the configuration.",
    "doctor": "Find out what is wrong with this installation.",
}
"""Each verb and its one line of help."""


class Verbs(click.Group):
    """A group that lists its verbs without importing them; the verb `x` is `command` in `farthing.cli.verb_x`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"farthing.cli.verb_{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in VERBS and not args[0].startswith("-"):
            near = get_close_matches(args[0], VERBS, 1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise click.UsageError(f'there is no verb "{args[0]}"{hint}', ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, subcommand_metavar="VERB [ARGS]...", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="farthing %(version)s")
@with_config
@quietly
def root() -> None:
    """Farthing: the best answer per dollar from language models in production.

    Meters every call exactly, shows what spending less would save, does it safely, and proves it afterwards.
    Data goes to stdout, progress to stderr. Start with `farthing demo`.
    """
