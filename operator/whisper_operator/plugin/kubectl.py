"""Runs the user's kubectl, and puts its complaints into words that help."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from whisper_operator.observed.foreign_words import printable
from whisper_operator.plugin.failure import NOT_BEGUN, Failure

LOGIN_SECONDS = 3.0
"""After so long it may be waiting for a login, and what it says is shown."""
TRIES = "--request-timeout=30s"

FORBIDDEN, NOT_FOUND, NO_SUCH_KIND, NO_CLUSTER = "Forbidden", "NotFound", "NoSuchKind", "NoCluster"


class Refused(Failure):
    """kubectl could not get it."""

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words, NOT_BEGUN)
        self.reason = reason


@dataclass(frozen=True)
class Kubectl:
    options: tuple[str, ...] = ()
    """Which cluster, for each call."""
    reads_terminal: bool = True
    """Whether it may ask its user something; not where standard input is audio."""

    def command(self, *arguments: str) -> list[str]:
        return ["kubectl", *self.options, *arguments]

    def get(self, *arguments: str) -> dict[str, Any]:
        """What `kubectl get ARGUMENTS -o json` prints. Raises Refused."""
        return self.get_some(*arguments, tolerate=())[0]

    def get_some(self, *arguments: str, tolerate: Sequence[str]) -> tuple[dict[str, Any], str]:
        """Likewise, but of several kinds those that can be read; and what it says of the others, for one of these reasons."""
        status, output, words = self._run("get", *arguments, "-o", "json", TRIES)
        if status:
            refused = refusal(words)
            if refused.reason not in tolerate:
                raise refused
        try:
            answer = json.loads(output or b'{"items": []}')
        except ValueError:
            raise Refused(
                NO_CLUSTER, f"kubectl get answered with no JSON: {words or output[:200]!r}"
            ) from None
        return answer, complaint(words)

    def lines(self, *arguments: str) -> list[str]:
        """What it prints, as far as it succeeds: of an aggregated API that is down it complains, and tells of all others."""
        status, output, words = self._run(*arguments, TRIES)
        if status and not output:
            raise refusal(words)
        return output.decode(errors="replace").split("\n")[:-1]

    def start(self, *arguments: str, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
        """Raises Failure where there is no kubectl."""
        try:
            return subprocess.Popen(
                self.command(*arguments), stdin=self._stdin(), stdout=subprocess.PIPE, stderr=stderr
            )
        except FileNotFoundError:
            raise Failure(
                "there is no kubectl on the PATH: install it, https://kubernetes.io/docs/tasks/tools/",
                NOT_BEGUN,
            ) from None
        except OSError as error:
            raise Failure(f"kubectl can't be run: {error.strerror}", NOT_BEGUN) from None

    def _run(self, *arguments: str) -> tuple[int, bytes, str]:
        with tempfile.TemporaryFile() as said:
            with self.start(*arguments, stderr=said) as process:
                try:
                    output = self._output(process, said)
                except BaseException:
                    process.kill()
                    raise
            said.seek(0)
            return process.returncode, output, said.read().decode(errors="replace")

    def _output(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> bytes:
        """All of it; meanwhile what it says, such as the code for a login in a browser, is shown."""
        shown = 0
        while True:
            try:
                return process.communicate(timeout=LOGIN_SECONDS)[0]
            except subprocess.TimeoutExpired:
                # Not by its position, which the process shares.
                news = os.pread(said.fileno(), 1 << 16, shown) if hasattr(os, "pread") else b""
                shown += len(news)
                sys.stderr.write(news.decode(errors="replace"))
                sys.stderr.flush()

    def _stdin(self) -> int | None:
        return None if self.reads_terminal else subprocess.DEVNULL


def refusal(words: str) -> Refused:
    """What kubectl's complaint means."""
    said = complaint(words)
    if "(Forbidden)" in said or " is forbidden: " in said:
        return Refused(FORBIDDEN, said)
    if "(NotFound)" in said and "could not find the requested resource" not in said:
        return Refused(NOT_FOUND, said)
    if "the server doesn't have a resource type" in said or "(NotFound)" in said:
        return Refused(NO_SUCH_KIND, said)
    return Refused(
        NO_CLUSTER,
        f"kubectl gets no answer from the cluster: {said or 'it does not say why'}\n"
        "`kubectl config current-context` says which cluster it asks, `kubectl cluster-info` whether that is there; --context "
        "and --kubeconfig choose another.",
    )


def complaint(words: str) -> str:
    """Without the lines of kubectl's own log, which say the same several times."""
    lines = [line for line in words.splitlines() if line.strip() and not _is_log(line)]
    return printable("; ".join(dict.fromkeys(line.strip() for line in lines)))


def _is_log(line: str) -> bool:
    return line[:1] in "EWI" and line[1:5].isdigit()
