"""The command ``orchestra``, assembled from one file per verb."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orchestra.cli import conversations, dead_letters, files, keys, requests
from orchestra.cli.bulk import bulk
from orchestra.cli.calls import RefusedValueError
from orchestra.cli.chat import chat
from orchestra.cli.controls import audit, build_models, build_queue, build_workers
from orchestra.cli.doctor import doctor
from orchestra.cli.down import down
from orchestra.cli.erase import erase, erasures
from orchestra.cli.logs import logs
from orchestra.cli.migrate import migrate
from orchestra.cli.operations import lag, stats
from orchestra.cli.options import fail
from orchestra.cli.password import password
from orchestra.cli.rewind import rewind
from orchestra.cli.scale import scale
from orchestra.cli.send import send
from orchestra.cli.service import gateway, llm, worker
from orchestra.cli.status import status
from orchestra.cli.streams import READER_GONE, StreamError, drop_output, flush_output, open_streams
from orchestra.cli.terminal import echo
from orchestra.cli.top.verb import top
from orchestra.cli.topics import topics
from orchestra.cli.up import up
from orchestra.version import version

_HERE = "The embedded stack, on this machine"
_TALK = "A gateway, on this machine or elsewhere"
_SERVICES = "One service, from environment variables"
_CARE = "A deployment"
_FAULT = "a bug in this program: please report it with the output under PYTHONDEVMODE=1"
_FAULT_CODE = 70


def main() -> None:
    """Run the command line."""
    open_streams()
    # The commands report an unreachable broker themselves; the libraries stay quiet.
    logging.getLogger().addHandler(logging.NullHandler())
    with _in_one_line():
        build()()


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Report an unhandled error in one line and by the exit code."""
    try:
        try:
            yield
        finally:
            flush_output()
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        match cause:
            case StreamError():
                drop_output()
                told, code = str(cause), cause.exit_code
            case OSError():
                told, code = ": ".join(str(each) for each in (cause.filename, cause.strerror or cause) if each), 1
            case _ if sys.flags.dev_mode:
                raise
            case _:
                told, code = f"{type(cause).__name__}: {cause} ({_FAULT})", _FAULT_CODE
        if code != READER_GONE:
            echo(told.replace("\n", " "), err=True)
        raise SystemExit(code) from None


class Verbs(TyperGroup):
    """All verbs. Arguments must be text: one that is not UTF-8 is refused here.

    A value that a gateway refuses is wrong usage if it is that of an option.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line."""
        for number, argument in enumerate(args, 1):
            try:
                argument.encode()
            except UnicodeEncodeError:
                raise typer.BadParameter(f"argument {number} is not UTF-8: {argument!a}") from None
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a verb."""
        try:
            return super().invoke(ctx)
        except RefusedValueError as error:
            if error.is_of_option():
                raise
            raise fail(error.failure) from None


def build() -> typer.Typer:
    """The application, with all its verbs."""
    app = typer.Typer(
        name="orchestra",
        cls=Verbs,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for panel, verbs in {
        _HERE: (up, down, status, logs, scale),
        _TALK: (send, bulk, chat, password),
        _SERVICES: (gateway, worker, llm),
        _CARE: (migrate, topics, doctor, top, lag, stats, audit, erase, erasures, rewind),
    }.items():
        for verb in verbs:
            app.command(rich_help_panel=panel)(verb)
    app.callback()(_options)
    app.add_typer(conversations.build(), name="conversations", rich_help_panel=_TALK)
    app.add_typer(requests.build(), name="requests", rich_help_panel=_TALK)
    app.add_typer(files.build(), name="files", rich_help_panel=_TALK)
    app.add_typer(build_models(), name="models", rich_help_panel=_CARE)
    app.add_typer(build_queue(), name="queue", rich_help_panel=_CARE)
    app.add_typer(build_workers(), name="workers", rich_help_panel=_CARE)
    app.add_typer(keys.build(), name="keys", rich_help_panel=_CARE)
    app.add_typer(dead_letters.build(), name="dead-letters", rich_help_panel=_CARE)
    return app


def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=lambda asked: _show() if asked else None, help="Show the version."
        ),
    ] = False,
) -> None:
    """A durable queue in front of language models: each message is accepted once and answered once, in order.

    Exit codes of every command: 0 done; 1 failed, or partly failed; 2 wrong usage, also if the gateway refuses the
    value of an option; 3 no gateway could be reached (send, bulk, chat); 4 standard output could not be written,
    although the work may be done; 70 a bug in this program; 78 a setting is wrong; 130 interrupted; 141 the reader of
    standard output went away. Errors are explained on standard error. Characters that the encoding of standard output
    lacks are replaced.
    """


def _show() -> None:
    echo(f"orchestra {version()}")
    raise typer.Exit
