"""`kubectl whisper transcribe` and `kubectl whisper status`: kubectl finds the program kubectl-whisper on the PATH."""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from whisper_operator.plugin import arguments as known
from whisper_operator.plugin import status, transcribe
from whisper_operator.plugin.failure import Failure
from whisper_operator.plugin.kubectl import Kubectl
from whisper_operator.plugin.sources import STDIN

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _end)  # so that nothing is left behind
    options = known.parser().parse_args(arguments)
    which = [f"--{name}={value}" for name in ("context", "kubeconfig") if (value := getattr(options, name))]
    kubectl = Kubectl(tuple(which), STDIN not in getattr(options, "files", ()))
    try:
        if options.command == "status":
            return status.run(options, kubectl)
        return transcribe.run(options, kubectl)
    except Failure as failure:
        print(f"kubectl-whisper: {failure}", file=sys.stderr)
        return failure.status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # such as of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
