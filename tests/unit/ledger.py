"""Endpoints that ask for GPUs, and what a ledger tells them."""

from whisper_operator.policy.amounts import Amounts, Running
from whisper_operator.policy.ledger import Ledger
from whisper_operator.policy.rules import Policy
from whisper_operator.spec.endpoint import SpecError


def under(namespace: dict[str, int], everywhere: int | None = None) -> Policy:
    in_all = {} if everywhere is None else {"gpus": everywhere}
    return Policy({"everywhere": {"ceilings": {"namespace": namespace}}, "ceilings": in_all})


def gpus(count: int, **more: int) -> Amounts:
    found = {**({"gpus": count} if count else {}), **more}
    return {name: amount * 1000 for name, amount in found.items()}


class Cluster:
    """Endpoints of one GPU a replica, under a ceiling of GPUs for a namespace and for all."""

    def __init__(self, namespace: int | None = None, everywhere: int | None = None) -> None:
        self.woken: list[str] = []
        self.ledger = Ledger(lambda key: self.woken.append(key[1]))
        self.policy = under({} if namespace is None else {"gpus": namespace}, everywhere)
        self.created: dict[str, str] = {}

    def note(self, name: str, wants: int, has: int, namespace: str = "asr", **more: int) -> None:
        self.runs(name, has, namespace)
        self.ask(name, wants, namespace, **more)

    def ask(self, name: str, wants: int, namespace: str = "asr", **more: int) -> None:
        created = self.created.setdefault(name, f"{len(self.created):04}")
        metadata = {"namespace": namespace, "name": name, "uid": name, "creationTimestamp": created}
        self.ledger.ask({"metadata": metadata}, gpus(wants, **more))

    def runs(
        self, name: str, kept: int, namespace: str = "asr", *, pods: int | None = None, going: int = 0
    ) -> None:
        """`kept`: by its Deployment."""
        serving = kept if pods is None else pods
        self.ledger.hold((namespace, name), Running(gpus(kept), gpus(serving), gpus(going)))

    def may(self, name: str, namespace: str = "asr", *, new_pods: bool = False) -> bool:
        try:
            self.ledger.grant((namespace, name), self.policy, new_pods=new_pods)
        except SpecError as error:
            assert error.reason == "CeilingReached"
            assert error.waits_for_room
            return False
        return True
