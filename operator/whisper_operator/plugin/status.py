"""The command `status`."""

import shutil
import textwrap
import time
from argparse import Namespace
from typing import Any

from whisper_operator.observed.foreign_words import printable
from whisper_operator.plugin import endpoint, tree, verdict
from whisper_operator.plugin.endpoint import Endpoint
from whisper_operator.plugin.failure import NOT_BEGUN, NOT_DONE, Failure
from whisper_operator.plugin.kubectl import FORBIDDEN, NO_SUCH_KIND, Kubectl

NARROWEST, WIDEST = 60, 120
LOOK_SECONDS = 2.0


def run(options: Namespace, kubectl: Kubectl) -> int:
    """Its exit status: whether all that were asked for are well. Raises Failure."""
    if options.name and options.all_namespaces:
        raise Failure(
            "an endpoint is in one namespace: give NAME with -n NAMESPACE, or -A without a NAME", NOT_BEGUN
        )
    found = _find(options, kubectl)
    if not found:
        where = (
            "any namespace"
            if options.all_namespaces
            else options.namespace or "the namespace of kubectl's context"
        )
        raise Failure(f"there is no WhisperEndpoint in {where}; -A looks in all namespaces", NOT_BEGUN)
    if options.watch:
        _watch(options, kubectl)
    for each in found:
        _print_verdict(each)
    if len(found) == 1:
        print()
        for what, state in _lines(kubectl, found[0], served_kinds(kubectl)).items():
            print(f"  {tree.written(what, state)}")
    return 0 if all(verdict.of(each).is_well for each in found) else NOT_DONE


def served_kinds(kubectl: Kubectl) -> list[str]:
    """Those of a tree's that this cluster has."""
    names = kubectl.lines("api-resources", "--namespaced", "--verbs=list", "-o", "name")
    served = {name.split(".")[0]: name for name in reversed(names)}
    return [served[kind] for kind in tree.KINDS if kind in served]


def _find(options: Namespace, kubectl: Kubectl) -> list[Endpoint]:
    if options.name:
        return [endpoint.find(kubectl, options.name, options.namespace)]
    return endpoint.list_all(kubectl, options.namespace, options.all_namespaces)


def _lines(kubectl: Kubectl, one: Endpoint, kinds: list[str]) -> dict[str, str]:
    selector = f"{tree.SELECTOR}={one.name}"
    objects, missing = kubectl.get_some(
        ",".join(kinds), "-n", one.namespace, "-l", selector, tolerate=(FORBIDDEN, NO_SUCH_KIND)
    )
    found = tree.lines(one.resource, objects["items"])
    return found | ({"not read": missing} if missing and not missing.startswith("No resources found") else {})


def _print_verdict(one: Endpoint) -> None:
    found = verdict.of(one)
    width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns))
    print(f"WhisperEndpoint {one.title}: {found.head}")
    for text in found.details:
        print(textwrap.fill(text, width, initial_indent="  ", subsequent_indent="  ", break_long_words=False))
    for name, what in (("url", "public"), ("internalURL", "in the cluster")):
        if address := one.status.get(name):
            print(f"  {printable(str(address))} ({what})")


def _watch(options: Namespace, kubectl: Kubectl) -> None:
    """What changes, until Ctrl-C."""
    start, shown, kinds = time.monotonic(), dict[str, str](), served_kinds(kubectl)
    while True:
        now: dict[str, str] = {}
        endpoints = _find(options, kubectl)
        for each in endpoints:
            lines = _lines(kubectl, each, kinds) | {"": verdict.of(each).head}
            now |= {_titled(each, what, options): state for what, state in lines.items()}
        for what, state in tree.news(now, shown).items():
            print(f"{time.monotonic() - start:7.1f} s  {tree.written(what, state)}", flush=True)
            shown[what] = state
        time.sleep(LOOK_SECONDS)


def _titled(one: Endpoint, what: str, options: Any) -> str:
    """A line's name, with the endpoint where there are several."""
    title = one.title if options.all_namespaces else one.name
    if not what:
        return f"WhisperEndpoint {title}"
    return what if options.name else f"{title}: {what}"
