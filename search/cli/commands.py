"""Command line: all commands, and what becomes of errors.

Heavy modules are imported inside of commands, so that help is instant.
"""

from __future__ import annotations

import signal
import sys

import click

from ...spaces.errors import FailedError, VitParetoError
from ...spaces.packages import needed
from .costs import costs
from .data import data
from .devices import calibrate, devices, predict
from .export import export
from .library import library
from .options import BAD_INPUT, FAILED
from .profile import profile
from .runs import ladder, proxy, report, watch
from .search import search
from .space import space
from .sweep import sweep
from .targets import targets
from .verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vitpareto")
def cli() -> None:
    """Find, compress and deliver the vision transformers that suit a device."""


for command in (
    *(search, export, verify, ladder, report, watch, proxy),
    *(space, calibrate, predict, devices),
    *(costs, data, library, profile, sweep, targets),
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; errors of this project and of files are printed in one line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clusters preempt with it
    try:
        with needed(" ".join(sys.argv[1:2])):
            cli(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):  # click turns the second into the first
        click.echo(
            "Interrupted. Run folders keep what is in them: the same command goes on.", err=True
        )
        sys.exit(FAILED)
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_INPUT)
    except VitParetoError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(FAILED if isinstance(error, FailedError) else BAD_INPUT)
    except OSError as error:
        if error.filename is None:
            raise
        click.echo(f"Error: {error.filename}: {error.strerror}", err=True)
        sys.exit(BAD_INPUT)
