"""The command: whom it asks, what it prints, and its exit status."""

import asyncio
import os
import sys
from argparse import Namespace
from typing import TextIO

from whisper_operator.doctor import printing
from whisper_operator.doctor.examination import NothingRead, Report, examine
from whisper_operator.doctor.gathering import Asked, NoSuchEndpoint
from whisper_operator.doctor.reading import REQUEST_SECONDS
from whisper_operator.doctor.resolver import Resolve, resolve
from whisper_operator.kube.credentials import Choice, connect, namespace
from whisper_operator.kube.errors import NoCluster, Refused, Retry
from whisper_operator.observed.foreign_words import printable

DEFAULT_NAMESPACE = "default"


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
