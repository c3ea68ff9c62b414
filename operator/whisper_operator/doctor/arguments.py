"""The command's arguments: apart from the command, which is slow to import."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

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
