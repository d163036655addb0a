"""The commands, joined; exit codes: 0 done, 1 cannot be met, 2 wrong usage, 3 not proven."""

import typer

from shrink.cli.apply import apply
from shrink.cli.compress import compress
from shrink.cli.inspect import inspect
from shrink.cli.measure import measure
from shrink.cli.models import models
from shrink.cli.report import report
from shrink.cli.verify import verify

app = typer.Typer(
    name="shrink",
    help="Make a trained PyTorch network smaller: prune channels to a budget, prove the result,"
    " measure what it bought.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for function in (compress, inspect, measure, report, verify, apply, models):
    app.command()(function)


def main() -> None:
    """Run the command line and exit."""
    app(prog_name="shrink")
