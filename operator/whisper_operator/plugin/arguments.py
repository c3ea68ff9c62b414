"""The arguments of `kubectl whisper`."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from whisper_operator import __version__
from whisper_operator.plugin.formats import SUFFIXES
from whisper_operator.plugin.keys import VARIABLE

DESCRIPTION = """\
Speech to text by a WhisperEndpoint, and how an endpoint is. It works with your own rights, by your kubectl.
"""
TRANSCRIBE = """\
Print what is said in files. They go to the endpoint's Service by `kubectl port-forward`, so that it works without DNS and for
endpoints that are not public. Transcripts go to standard output, everything else to standard error.
"""
KEYS = f"""\
The API key, where the endpoint needs one, is that of --key-file or of the variable {VARIABLE}, or else it is read from the Secret
that the endpoint names.

Exit status: 0 all were transcribed; 1 some were not; 2 nothing was sent, for wrong usage, a file that can't be read, or want of a
cluster, of an endpoint that serves, or of a key; 130 interrupted.
"""
STATUS = """\
Print what is wrong with an endpoint and what to do next, then its objects and its conditions; of several, only what is wrong.
"""
STATUSES = "Exit status: 0 all are Ready; 1 some are not; 2 wrong usage, no cluster, or no such endpoint; 130 interrupted."


def parser() -> ArgumentParser:
    top = ArgumentParser(
        prog="kubectl whisper", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", required=True)
    transcribe = commands.add_parser(
        "transcribe",
        help="print what is said in files",
        description=TRANSCRIBE,
        epilog=KEYS,
        formatter_class=RawDescriptionHelpFormatter,
    )
    transcribe.add_argument("files", nargs="+", metavar="FILE", help="audio or video; - for standard input")
    transcribe.add_argument("--endpoint", required=True, metavar="NAME", help="the WhisperEndpoint")
    transcribe.add_argument("--format", choices=SUFFIXES, default="text", help="(default: text)")
    transcribe.add_argument(
        "--language", help="spoken in the files, such as de (default: the endpoint's, or detected)"
    )
    transcribe.add_argument("--translate", action="store_true", help="into English")
    transcribe.add_argument("--prompt", help="names and words that may come, in a sentence")
    transcribe.add_argument(
        "--words", action="store_true", help="with the times of words; needs --format verbose_json"
    )
    transcribe.add_argument(
        "--output", metavar="FILE|FOLDER", help="write there; of several files, one each into the folder"
    )
    transcribe.add_argument(
        "--url", action="store_true", help="by the endpoint's public URL, not through kubectl"
    )
    transcribe.add_argument("--key-file", type=Path, metavar="FILE", help="a file with the API key")
    transcribe.add_argument(
        "--client", metavar="NAME", help="whose key of the Secret to use (default: the first by name)"
    )
    status = commands.add_parser(
        "status",
        help="print what is wrong with endpoints, and what they are made of",
        description=STATUS,
        epilog=STATUSES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    status.add_argument(
        "name", nargs="?", metavar="NAME", help="of one endpoint; without it, all of the namespace"
    )
    status.add_argument("-A", "--all-namespaces", action="store_true", help="those of every namespace")
    status.add_argument("-w", "--watch", action="store_true", help="print what changes, until Ctrl-C")
    for command in (transcribe, status):
        command.add_argument("-n", "--namespace", help="of the endpoint (default: that of kubectl's context)")
        command.add_argument("--context", help="kubectl's, for another cluster")
        command.add_argument("--kubeconfig", help="kubectl's")
    return top
