"""Command line: `whisper-operator run` is the controller, `render` shows what it would make of a file, `doctor` says what is
wrong with a cluster."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from whisper_operator import __version__, config
from whisper_operator.doctor import arguments as doctor
from whisper_operator.kube.errors import NoCluster
from whisper_operator.offline.render import OPTIONAL, InputError, Options, render
from whisper_operator.policy.live import LivePolicy
from whisper_operator.process import logs
from whisper_operator.process.shutdown import ShutdownWatchdog


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status: 0 done, 1 some endpoint's spec can't work or is not allowed, or something is wrong in the
    cluster, 2 wrong usage, or input or a cluster that can't be read."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "doctor":
            from whisper_operator.doctor import command  # Slow to import, and not needed by others.

            return command.run(options)
        settings = config.load(options.config)
        policy = LivePolicy(options.policy, settings)
        if options.command == "render":
            if policy.wrong:
                raise config.ConfigError(f"cannot use the policy {options.policy}: {policy.wrong}")
            kinds = frozenset(OPTIONAL[name] for name in options.kinds)
            chosen = Options(options.namespace, options.settled, kinds)
            return 1 if render(options.files, settings, policy.current, chosen, sys.stdout) else 0
        _run(settings, policy)
    except (config.ConfigError, NoCluster, InputError) as error:
        print(f"whisper-operator: {error}", file=sys.stderr)
        return 2
    return 0


def _run(settings: config.Settings, policy: LivePolicy) -> None:
    from whisper_operator import controller  # Slow to import, and not needed to render.

    async def once(watchdog: ShutdownWatchdog) -> bool:
        try:
            return await controller.run(settings, policy, watchdog)
        except (config.ConfigError, NoCluster):
            raise
        except Exception:
            # Not by returning: asyncio would wait for all that is left behind, which may be for ever.
            logging.getLogger(__name__).critical("The operator failed, ending", exc_info=True)
            logging.shutdown()
            os._exit(1)

    logs.configure(settings.log_level)
    policy.tell()
    anew = True
    while anew:
        watchdog = ShutdownWatchdog()
        anew = asyncio.run(once(watchdog))
        watchdog.cancel()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="whisper-operator", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the controller, in the cluster or against KUBECONFIG")
    show = commands.add_parser(
        "render",
        help="print the children of endpoints as YAML, without a cluster",
        description="Print what the controller would apply for the endpoints in files, but for owners and hashes.",
        epilog="Exit status: 0 printed; 1 the API server would refuse an endpoint, its spec can't work on this "
        "installation, or the policy does not allow it; 2 wrong usage or unreadable input.",
    )
    show.add_argument(
        "-f",
        "--file",
        dest="files",
        action="append",
        required=True,
        help="a file of one or more documents, a folder of them, or - for standard input; may be repeated",
    )
    show.add_argument("-n", "--namespace", default="default", help="of endpoints that name none")
    show.add_argument(
        "--settled",
        action="store_true",
        help="what is there once every certificate is active, not what is made first",
    )
    show.add_argument(
        "--with",
        dest="kinds",
        metavar="KIND",
        choices=sorted(OPTIONAL),
        action="append",
        default=[],
        help="a kind that the cluster is taken to have: %(choices)s; may be repeated",
    )
    doctor.add_to(commands)
    for command in (run, show):
        for name, what in (
            ("config", "settings of the installation"),
            ("policy", "what the installation allows its endpoints; without it, everything"),
        ):
            default = os.environ.get(f"WHISPER_OPERATOR_{name.upper()}")
            command.add_argument(
                f"--{name}",
                type=Path,
                default=Path(default) if default else None,
                help=f"{what} (default: $WHISPER_OPERATOR_{name.upper()})",
            )
    return parser


if __name__ == "__main__":
    sys.exit(main())
