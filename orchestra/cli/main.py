"""The command ``orchestra``: one file per verb, put together here."""

import logging

import typer

from orchestra.cli import keys
from orchestra.cli.doctor import doctor
from orchestra.cli.down import down
from orchestra.cli.logs import logs
from orchestra.cli.migrate import migrate
from orchestra.cli.scale import scale
from orchestra.cli.send import send
from orchestra.cli.service import gateway, llm, worker
from orchestra.cli.status import status
from orchestra.cli.topics import topics
from orchestra.cli.up import up

_HERE = "The embedded stack, on this machine"
_SERVICES = "One service, from environment variables"
_CARE = "A deployment"


def main() -> None:
    """Run the command line."""
    # What libraries have to say about a broker that is not up yet is told in our own words.
    logging.getLogger().addHandler(logging.NullHandler())
    build()()


def build() -> typer.Typer:
    """The application with all its verbs."""
    app = typer.Typer(
        name="orchestra",
        help="A durable queue in front of language models: accepted once, answered once, in order.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for panel, verbs in {
        _HERE: (up, down, status, logs, scale, send),
        _SERVICES: (gateway, worker, llm),
        _CARE: (migrate, topics, doctor),
    }.items():
        for verb in verbs:
            app.command(rich_help_panel=panel)(verb)
    app.add_typer(keys.build(), name="keys", rich_help_panel=_CARE)
    return app
