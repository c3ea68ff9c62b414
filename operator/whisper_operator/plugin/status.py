"""The command `status`."""

import shutil
import textwrap
import time
from argparse import Namespace

from whisper_operator.kube.kinds import ENDPOINT_LABEL
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
    served = kubectl.lines("api-resources", "--namespaced", "--verbs=list", "-o", "name")
    return [kind for kind in tree.KINDS if kind in served]


def _find(options: Namespace, kubectl: Kubectl) -> list[Endpoint]:
    if options.name:
        return [endpoint.find(kubectl, options.name, options.namespace)]
    return endpoint.list_all(kubectl, options.namespace, options.all_namespaces)


def _lines(kubectl: Kubectl, one: Endpoint, kinds: list[str]) -> dict[str, str]:
    selector = f"{ENDPOINT_LABEL}={one.name}"
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
    """What changes, until Ctrl-C: of several endpoints only how they are, as a look at all that they have is a call for each."""
    start, shown, kinds = time.monotonic(), dict[str, str](), served_kinds(kubectl) if options.name else []
    while True:
        now: dict[str, str] = {}
        for each in _find(options, kubectl):
            title = each.title if options.all_namespaces else each.name
            now[f"WhisperEndpoint {title}"] = verdict.of(each).head
            if options.name:
                now |= _lines(kubectl, each, kinds)
        for what, state in tree.news(now, shown).items():
            print(f"{time.monotonic() - start:7.1f} s  {tree.written(what, state)}", flush=True)
            shown[what] = state
        time.sleep(LOOK_SECONDS)
