"""The command: whom it asks, what it prints, and its exit status."""

import asyncio
import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from typing import Any, TextIO

from whisper_operator.doctor import printing
from whisper_operator.doctor.examination import NothingRead, Report, examine
from whisper_operator.doctor.gathering import Asked, NoSuchEndpoint
from whisper_operator.doctor.reading import REQUEST_SECONDS
from whisper_operator.doctor.resolver import Resolve, resolve
from whisper_operator.kube.credentials import Choice, connect, namespace
from whisper_operator.kube.errors import NoCluster, Refused, Retry
from whisper_operator.observed.foreign_words import printable

DEFAULT_NAMESPACE = "default"

DESCRIPTION = """\
Say what is wrong with the installation and with endpoints, and how to mend it.

It reads the cluster with your own rights, writes nothing, and reads no Secret. What you may not read is said as not checked.
"""
EPILOG = """\
Exit status: 0 no errors, though there may be warnings and things not checked; 1 errors were found; 2 wrong usage, no cluster that
can be reached, no endpoint of that name, or nothing that you may read.
"""


def add_to(commands: Any) -> None:
    """Add it to a parser's commands."""
    parser: ArgumentParser = commands.add_parser(
        "doctor",
        help="say what is wrong with an installation and its endpoints",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="of one endpoint; without it, all of the namespace"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-n", "--namespace", help="of endpoints (default: the context's)")
    where.add_argument("-A", "--all-namespaces", action="store_true", help="endpoints of every namespace")
    parser.add_argument(
        "--kubeconfig", help="(default: in a pod, its ServiceAccount; else $KUBECONFIG, or ~/.kube/config)"
    )
    parser.add_argument("--context", help="of the kubeconfig (default: its current one)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="(default: text)")
    parser.add_argument("-v", "--verbose", action="store_true", help="name what is well, too")


def run(options: Namespace, output: TextIO | None = None, look_up: Resolve = resolve) -> int:
    """Its exit status. Raises NoCluster."""
    if options.name and options.all_namespaces:
        raise NoCluster("an endpoint is in one namespace: give NAME with -n NAMESPACE, or -A without a NAME")
    output = output or sys.stdout
    report = asyncio.run(_examine(options, look_up))
    try:
        if options.output == "json":
            printing.as_json(report, output)
        else:
            printing.text(report, output, verbose=options.verbose)
        output.flush()
    except BrokenPipeError:  # such as of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
    return 1 if report.errors else 0


async def _examine(options: Namespace, look_up: Resolve) -> Report:
    choice = Choice(options.kubeconfig, options.context)
    where = None if options.all_namespaces else options.namespace or namespace(choice, DEFAULT_NAMESPACE)
    async with connect(REQUEST_SECONDS, choice) as api:
        try:
            await api.server_version()
        except Refused:
            pass  # who may not ask for it may read other things
        except Retry as error:
            words = printable(str(error))
            if ": 401 " in words:
                raise NoCluster(
                    f"the API server {api.server} does not take these credentials: {words}"
                ) from error
            raise NoCluster(f"can't reach the API server {api.server}: {words}") from error
        try:
            return await examine(api, Asked(where, options.name), look_up)
        except (NoSuchEndpoint, NothingRead) as error:
            raise NoCluster(str(error)) from error
