"""`farthing plan`: what to run a model on, what it costs, how fast it is, and when it pays to move."""

from importlib import import_module

import click

from farthing.errors import ConfigError

QUESTIONS = {
    "search": "Find the cheapest way of serving a load within limits of time.",
    "predict": "Predict one deployment under one load, with intervals.",
    "memory": "Say what fits: weights, KV cache per token, batch and context.",
    "cost": "Turn an hourly price and a throughput into dollars per token and per request.",
    "break-even": "Find from what traffic on machines of one's own are cheaper than an API.",
    "tco": "Work out what owning hardware costs per hour.",
    "fleet": "Mix kinds of hardware over sizes of requests at the least cost.",
    "compress-case": "Weigh a smaller or compressed model against the one in use.",
    "energy": "Say what it draws: watts, joules per token, kWh and gCO2e per 1k requests.",
    "simulate": "Run recorded requests through a simulated engine, step by step.",
    "calibrate": "Fit the model to measurements of one's own.",
    "probe": "Measure an engine of one's own with a bounded load.",
    "evaluate": "Hold the model's predictions against measured rows.",
    "scaling": "Draw the frontier of cost and speed that scaling a model out allows.",
    "facts": "List the hardware, models and prices that are known, with their sources.",
}
"""Each question and its one line of help."""

NEEDED = ("numpy", "scipy", "numba")


class Questions(click.Group):
    """A group that lists its questions without importing them; `x-y` is `command` in `farthing.cli.planning_x_y`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(QUESTIONS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in QUESTIONS:
            return None
        try:
            command: click.Command = import_module(f"farthing.cli.planning_{cmd_name.replace('-', '_')}").command
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in NEEDED:
                raise
            raise ConfigError(
                f"farthing plan computes with {', '.join(NEEDED)}, and {error.name} is not installed.",
                hint="Install them with `pip install 'farthing[plan]'`.",
            ) from None
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Questions"):
            formatter.write_dl(list(QUESTIONS.items()))


@click.group(cls=Questions, subcommand_metavar="QUESTION [ARGS]...")
def command() -> None:
    """Say what to run a model on, what it costs, how fast it is, and when it pays to move.

    Answers come from a model of serving that is fitted to measurements and states its own error. Durations are seconds
    unless a unit follows, as in 50ms. Start with `farthing plan search --help`.
    """
