"""The policy file: what it may say, how its parts add up, and what is said of one that makes no sense."""

import json
import re
import textwrap
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from whisper_operator import claims
from whisper_operator.apply import upgrade
from whisper_operator.offline import crd_schema
from whisper_operator.policy import allowed
from whisper_operator.policy.allowed import LISTED
from whisper_operator.policy.amounts import asked
from whisper_operator.policy.defaults import completed
from whisper_operator.policy.ledger import Ledger
from whisper_operator.policy.reading import PolicyError, load
from whisper_operator.policy.rules import Policy
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint, parse

from tests.unit.making import SETTINGS, Body, made

ROOT = Path(__file__).resolve().parents[2]


def policy(**said: Any) -> Policy:
    return load(yaml.safe_dump({"preset": "none", **said}), SETTINGS)


def understood(spec: Body, under: Policy, namespace: str = "asr") -> WhisperEndpoint:
    resource = {"metadata": {"name": "whisper", "namespace": namespace, "uid": "u-1"}, "spec": spec}
    return allowed.parse(resource, SETTINGS, under.of(namespace))


def refused(spec: Body, under: Policy, namespace: str = "asr") -> str:
    with pytest.raises(SpecError) as error:
        understood(spec, under, namespace)
    assert error.value.reason == "PolicyViolation"
    return error.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "while parsing a flow node"),
        (
            "# preset: multi-tenant",
            "preset has to be said: multi-tenant, or none, by which everything is allowed",
        ),
        ("everywhere: {}", "preset has to be said"),
        ("ceilings: {cpu: .inf}", "line 2: .inf is no amount: write none for no ceiling"),
        ("ceilings: {cpu: .nan}", "line 2: .nan is no amount"),
        ("ceilings: {cpu: inf}", "'inf' can't stand there, but an amount such as 32 or 192Gi, or none"),
        (
            "everywhere: {server: {version: ''}}",
            "everywhere.server.version: '' can't stand there, but a tag's beginning",
        ),
        ("everywhere: {hosts: ['*..']}", "a host, or *.DOMAIN"),
        (
            "a: &a [1,2,3,4,5,6,7,8,9]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
            "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
            "g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]",
            "it has more than 1000000 values, with all that its aliases (*) stand for",
        ),
        ("[]", "[] is not of type 'object'"),
        ("preset: strict", "preset: 'strict' is not one of ['none', 'multi-tenant']"),
        ("hosts: []", "unknown field 'hosts': use ceilings, everywhere, namespaces, preset"),
        ("everywhere: {host: []}", "everywhere: unknown field 'host': did you mean hosts?"),
        ("everywhere: {hosts: }", "everywhere.hosts: nothing stands there: write [] or {} if that is meant"),
        ("everywhere:", "everywhere: nothing stands there"),
        ("everywhere: {hosts: shop.example.com}", "'shop.example.com' is not of type 'array'"),
        ("everywhere: {hosts: [no]}", "everywhere.hosts[0]: False is no text: put it in quotes"),
        ("everywhere: {hosts: ['a*.example.com']}", "a host, or *.DOMAIN"),
        ("everywhere: {hosts: ['https://a.example.com']}", "a host, or *.DOMAIN"),
        ("everywhere: {staticIPNames: ['{namespace}-*']}", "one with {namespace} and no *"),
        ("everywhere: {secrets: ['a*b']}", "the beginning of one with * at its end"),
        ("everywhere: {secrets: ['{name}']}", "can't stand there"),
        ("everywhere: {registries: ['registry.example.com*']}", "a registry, or a path under one, without *"),
        ("everywhere: {publicWithoutAuth: never}", "'never' is not one of ['allow', 'warn', 'deny']"),
        ("everywhere: {egress: [{cidr: 10.0.0.0}]}", "egress[0].cidr must be a network such as 10.0.0.0/8"),
        ("everywhere: {egress: [{to: a}]}", "egress[0].to is not a setting"),
        ("ceilings: {gpu: 4}", "ceilings: unknown field 'gpu': did you mean gpus?"),
        ("ceilings: {gpus: many}", "ceilings.gpus: 'many' can't stand there, but a whole number, or none"),
        ("ceilings: {memory: 4GB}", "ceilings.memory: '4GB' can't stand there"),
        ("ceilings: {cpu: -1}", "-1 is less than the minimum of 0"),
        ("namespaces: {Asr: {}}", "namespaces: 'Asr' can't stand there, but the name of a namespace"),
        ("namespaces: {1: {hosts: []}}", "line 2: 1 is no text: put it in quotes"),
        ("namespaces: {no: {hosts: []}}", "line 2: False is no text: put it in quotes"),
        ("everywhere: {registries: [registry.example.com/]}", "without * and without / at its end"),
        ("&a {namespaces: *a}", "recursive"),
        ("namespaces: {asr: {hosts: []}, asr: {}}", "'asr' stands twice in one mapping"),
        ("everywhere: {defaults: {host: a.example.com}}", "everywhere.defaults: unknown field 'host'"),
        (
            "namespaces: {asr: {defaults: {accelerator: {type: abacus}}}}",
            "namespaces.asr: spec.accelerator.type 'abacus' is not in this installation's table",
        ),
        (
            "everywhere: {defaults: {scheduling: {env: [{name: A}]}}}",
            "everywhere: defaults.scheduling.env[0]: 'value' is a required property",
        ),
        (
            "everywhere: {defaults: {resources: {requests: {memory: lots}}}}",
            "everywhere: defaults.resources.requests.memory: an amount of bytes is more than 0",
        ),
        (
            "everywhere: {defaults: {limits: {maxqueue: 4}}}",
            "everywhere: defaults.limits: unknown field 'maxqueue': did you mean maxQueue?",
        ),
        (
            "everywhere: {defaults: {ingress: {class: nginx}}}",
            "everywhere.defaults.ingress: unknown field 'class'",
        ),
    ],
)
def test_what_makes_no_sense_is_named(text: str, words: str) -> None:
    if text.startswith(("everywhere: {", "namespaces: {", "ceilings: {")) and "preset" not in words:
        text = f"preset: none\n{text}"
    with pytest.raises(PolicyError) as error:
        load(text, SETTINGS, crd_schema.complaints)
    assert words in str(error.value)


def test_what_is_installed_is_valid_with_every_comment_taken_off() -> None:
    for path in ROOT.glob("deploy/**/policy.yaml"):
        text = path.read_text()
        assert load(text, SETTINGS).is_same(Policy({"preset": "none"})), "as it stands, it allows everything"
        bare = "\n".join(re.sub(r"^#(?! \S)", "", line) for line in text.splitlines())
        load(bare, SETTINGS, crd_schema.complaints)


def test_the_installed_operator_reads_the_policy_under_a_name_that_stays() -> None:
    """Else a new policy would be another ConfigMap, and a restart."""
    documents = yaml.safe_load_all((ROOT / "deploy" / "base" / "operator.yaml").read_text())
    pod = next(each for each in documents if each["kind"] == "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    path = Path(container["args"][container["args"].index("--policy") + 1])
    (mount,) = (each for each in container["volumeMounts"] if each["mountPath"] == str(path.parent))
    (volume,) = (each for each in pod["volumes"] if each["name"] == mount["name"])
    name = "whisper-operator-policy"
    assert name in [each["configMap"]["name"] for each in volume["projected"]["sources"]]
    assert "subPath" not in mount, "a file of its own is never brought up to date"
    for kustomization in ROOT.glob("deploy/**/kustomization.yaml"):
        for each in yaml.safe_load(kustomization.read_text()).get("configMapGenerator", ()):
            if each["name"] == name:
                assert each["files"] == [path.name]
                assert each["options"] == {"disableNameSuffixHash": True}


def test_what_is_installed_explains_every_list() -> None:
    text = (ROOT / "deploy" / "base" / "policy.yaml").read_text()
    assert [name for name in LISTED.values() if f"#  {name}: " not in text] == []


def test_every_list_of_the_schema_is_held_against_a_field() -> None:
    rules = yaml.safe_load((ROOT / "operator/whisper_operator/policy/schema.yaml").read_text())["$defs"][
        "rules"
    ]
    lists = {
        name
        for name, each in rules["properties"].items()
        if each.get("$ref") == "#/$defs/names" or each.get("type") == "array"
    }
    assert lists == {*LISTED.values(), "egress"}


def test_without_a_policy_everything_is_allowed() -> None:
    spec = {
        "image": "x/y", "host": "a.example.com", "replicas": 900, "networkPolicy": {"enabled": False},
        "scheduling": {"serviceAccountName": "admin", "tolerations": [{"operator": "Exists"}]},
    }  # fmt: skip
    understood(spec, Policy())


def test_a_namespaces_own_word_comes_before_that_for_all_and_that_before_the_preset() -> None:
    under = policy(
        preset="multi-tenant",
        everywhere={"hosts": ["*.{namespace}.example.com"], "ceilings": {"namespace": {"gpus": 2}}},
        namespaces={"shop": {"hosts": ["shop.example.com"], "ceilings": {"endpoint": {"cpu": 9}}}},
    )
    assert under.of("asr").lists["hosts"] == ("*.asr.example.com",)
    assert under.of("shop").lists["hosts"] == ("shop.example.com",)
    assert under.of("shop").lists["secrets"] == ("whisper-*",)
    assert under.of("shop").ceiling_of_one == {"replicas": 4000, "cpu": 9000}
    assert under.together("shop")["gpus"] == 2000
    assert under.together("shop")["endpoints"] == 4000
    understood({"host": "shop.example.com", "auth": {"secretName": "whisper-k"}}, under, "shop")
    assert "spec.host 'shop.example.com'" in refused({"host": "shop.example.com"}, under)


@pytest.mark.parametrize(
    ("entry", "image", "fits"),
    [
        ("registry.example.com", "registry.example.com/a/b:1", True),
        ("registry.example.com", "registry.example.com:5000/a", False),
        ("registry.example.com", "registry.example.com.evil.org/a", False),
        ("registry.example.com", "registry.example.com", False),
        ("registry.example.com:5000", "registry.example.com:5000/a", True),
        ("registry.example.com/asr", "registry.example.com/asr/x@sha256:0", True),
        ("registry.example.com/asr", "registry.example.com/asr:1", True),
        ("registry.example.com/asr", "registry.example.com/asr@sha256:0", True),
        ("registry.example.com/asr", "registry.example.com/asr", True),
        ("registry.example.com/asr", "registry.example.com/asr-evil/x", False),
        ("registry.example.com/asr", "evil.org/registry.example.com/asr", False),
        ("*", "evil.org/a", True),
    ],
)
def test_an_image_lies_under_a_registry(entry: str, image: str, fits: bool) -> None:
    assert policy(everywhere={"registries": [entry]}).of("asr").allows("registries", image) is fits


@pytest.mark.parametrize(
    ("entry", "host", "fits"),
    [
        ("a.example.com", "a.example.com", True),
        ("a.example.com", "b.a.example.com", False),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "evilexample.com", False),
        ("*.{namespace}.example.com", "a.asr.example.com", True),
        ("*.{namespace}.example.com", "a.asr-2.example.com", False),
        ("{namespace}.example.com", "asr.example.com", True),
        ("*", "a.org", True),
    ],
)
def test_a_host_lies_below_a_domain(entry: str, host: str, fits: bool) -> None:
    assert policy(everywhere={"hosts": [entry]}).of("asr").allows("hosts", host) is fits


@pytest.mark.parametrize(
    ("way", "ways", "fits"),
    [
        ({"cidr": "10.1.0.0/16"}, [{"cidr": "10.0.0.0/8"}], True),
        ({"cidr": "10.0.0.0/8"}, [{"cidr": "10.1.0.0/16"}], False),
        ({"cidr": "10.1.0.0/16"}, [{"cidr": "10.0.0.0/8", "ports": [{"port": 443}]}], False),
        ({"cidr": "::/0"}, [{"cidr": "0.0.0.0/0"}], False),
        ({"ports": [{"port": 443}]}, [{"cidr": "0.0.0.0/0"}], False),
        ({"ports": [{"port": 443}]}, [{"ports": [{"port": 400, "endPort": 500}]}], True),
        ({"ports": [{"port": 400, "endPort": 501}]}, [{"ports": [{"port": 400, "endPort": 500}]}], False),
        ({"ports": [{"port": 443, "protocol": "UDP"}]}, [{"ports": [{"port": 443}]}], False),
        ({"namespace": "mesh"}, [{"namespace": "mesh"}], True),
        ({"namespace": "mesh"}, [{"namespace": "mesh2"}, {"cidr": "0.0.0.0/0"}], False),
        ({"namespace": "mesh"}, [{}], True),
        ({"namespace": "mesh"}, [], False),
    ],
)
def test_a_way_out_lies_within_one_that_is_allowed(way: Body, ways: list[Body], fits: bool) -> None:
    under, spec = policy(everywhere={"egress": ways}), {"networkPolicy": {"egress": [way]}}
    if fits:
        understood(spec, under)
    else:
        assert "spec.networkPolicy.egress[0] (not within the ways out" in refused(spec, under)


def test_what_an_absent_field_stands_for_is_held_against_the_lists_too() -> None:
    assert "spec.accelerator.type 'nvidia-tesla-t4', which is the default (allowed accelerators: nvidia-l4)" in refused(
        {}, policy(everywhere={"accelerators": ["nvidia-l4"]})
    )  # fmt: skip
    understood({"device": "cpu"}, policy(everywhere={"accelerators": []}))
    under = policy(everywhere={"ingressClasses": ["nginx"], "models": ["turbo"]})
    message = refused({"host": "a.example.com"}, under)
    assert "spec.ingress.class 'gce', which is the default" in message
    assert "spec.model 'large-v3', which is the default" in message


def test_a_model_is_allowed_by_either_of_its_names() -> None:
    for name in ("large", "large-v3"):
        understood({"model": name}, policy(everywhere={"models": ["large-v3"]}))
    understood({"model": "large"}, policy(everywhere={"models": ["large"]}))


def test_defaults_are_what_a_spec_does_not_say() -> None:
    under = policy(
        preset="multi-tenant",
        everywhere={
            "defaults": {
                "accelerator": {"type": "nvidia-h100-80gb"},
                "limits": {"maxQueue": 4},
                "scheduling": {"priorityClassName": "asr", "nodeSelector": {"pool": "asr"}},
            }
        },
    )
    found = understood({"limits": {"requestTimeoutSeconds": 60}}, under)
    assert found.gpu is not None
    assert found.gpu.type == "nvidia-h100-80gb", "the installation's own word needs no place in its lists"
    assert (found.limits.max_queue, found.limits.request_timeout_seconds) == (4, 60)
    assert found.scheduling.node_selector == {"pool": "asr"}
    assert understood({"device": "cpu"}, under).gpu is None
    # But nobody else may say so.
    assert "priorityClassName 'asr'" in refused({"scheduling": {"priorityClassName": "asr"}}, under)


def test_defaults_for_the_load_balancer_are_gkes_alone() -> None:
    given = {"ingress": {"sslPolicy": "modern"}}
    assert completed({}, given) == {}
    assert completed({"host": "a.example.com"}, given)["ingress"] == {"sslPolicy": "modern"}
    nginx = {"host": "a.example.com", "ingress": {"class": "nginx"}}
    assert completed(nginx, given) == nginx


@pytest.mark.parametrize(
    ("name", "default", "spec"),
    [
        ("resources", {"limits": {"memory": "8Gi"}}, {"resources": {"requests": {"memory": "16Gi"}}}),
        ("engine", "faster-whisper", {"computeType": "bfloat16"}),
        ("limits", {"maxQueue": 4}, {"autoscaling": {"max": 2, "targetInFlight": 8}}),
        ("defaults", {"language": "de"}, {"model": "small.en"}),
        ("accelerator", {"type": "nvidia-l4"}, {"device": "cpu"}),
    ],
)
def test_a_default_never_makes_a_spec_that_the_api_server_would_refuse(
    name: str, default: Any, spec: Body
) -> None:
    assert completed(spec, {name: default}) == spec
    assert completed({}, {name: default}) == {name: default}


DEFAULTS: tuple[Body, ...] = (
    {"model": "turbo"},
    {"model": "small.en"},
    {"model": "medium"},
    {"defaults": {"task": "translate"}},
    {"defaults": {"language": "yue"}},
    {"defaults": {"language": "de", "prompt": "x"}},
    {"limits": {"maxQueue": 1}},
    {"limits": {"maxQueue": 4}},
    {"engine": "faster-whisper"},
    {"accelerator": {"type": "nvidia-l4", "spot": True}},
    {"resources": {"limits": {"memory": "8Gi", "cpu": 2}}},
    {"resources": {"requests": {"memory": "32Gi", "cpu": 8}}},
    {"resources": {"limits": {"ephemeral-storage": "8Gi"}}},
    {"ingress": {"httpsRedirect": True}},
    {"ingress": {"sslPolicy": "modern", "securityPolicy": "office"}},
    {"scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "a"}]}},
)
CLAIM = {"persistentVolumeClaim": {"claimName": "m"}}
SPECS: tuple[Body, ...] = (
    {"defaults": {"task": "translate"}},
    {"defaults": {"language": "de"}},
    {"defaults": {"language": "yue", "prompt": "y"}},
    {"model": "turbo"},
    {"model": "small.en"},
    {"model": "/models/a.pt", "modelVolume": CLAIM},
    {"model": "turbo", "modelVolume": {"emptyDir": {"sizeLimit": "20Gi"}}},
    {"autoscaling": {"max": 3}},
    {"autoscaling": {"max": 3, "targetInFlight": 31}},
    {"autoscaling": {"max": 3, "targetInFlight": 7}, "limits": {"maxQueue": 8}},
    {"limits": {"maxQueue": 1}},
    {"device": "cpu", "computeType": "int8", "engine": "faster-whisper"},
    {"device": "cpu", "autoscaling": {"max": 2}},
    {"computeType": "bfloat16", "accelerator": {"type": "nvidia-l4"}},
    {"accelerator": {"spot": True}},
    {"resources": {"requests": {"memory": "16Gi", "cpu": 4, "ephemeral-storage": "99Gi"}}},
    {"resources": {"limits": {"memory": "4Gi"}}},
    {"host": "a.example.com"},
    {"host": "a.example.com", "ingress": {"tls": {"mode": "none"}}},
    {"host": "a.example.com", "ingress": {"tls": {"secretName": "s"}}},
    {"host": "a.example.com", "ingress": {"class": "gce-internal"}},
    {"host": "a.example.com", "ingress": {"class": "nginx", "annotations": {"a": "b"}}},
)


@pytest.mark.parametrize("default", DEFAULTS, ids=str)
def test_beside_any_default_every_good_spec_is_still_good(default: Body) -> None:
    """Else a new default would break what runs; by the CRD's own rules, and by what the operator makes of it."""
    for spec in SPECS:
        whole = completed(spec, default)
        assert complaints(json.dumps(spec)) == []
        assert complaints(json.dumps(whole)) == [], (spec, default)
        parse({"metadata": METADATA, "spec": whole}, SETTINGS)


METADATA = {"name": "whisper", "namespace": "asr"}


@cache
def complaints(spec: str) -> list[str]:
    head = {"apiVersion": "whisper-operator.io/v1alpha1", "kind": "WhisperEndpoint", "metadata": METADATA}
    return crd_schema.complaints({**head, "spec": json.loads(spec)})


def test_a_default_of_a_thousand_namespaces_is_tried_once() -> None:
    """That takes a tenth of a second, and the operator's Lease some seconds."""
    tried = []
    text = yaml.safe_dump({
        "preset": "none",
        "everywhere": {"defaults": {"model": "turbo"}},
        "namespaces": {f"n{number}": {"hosts": []} for number in range(1000)},
    })  # fmt: skip
    load(text, SETTINGS, lambda resource: tried.append(resource) or [])  # type: ignore[func-returns-value]
    assert len(tried) == 1


def test_a_large_policy_is_read_in_seconds() -> None:
    said = {
        "preset": "none",
        "namespaces": {f"n{number}": {"hosts": ["a.example.com"]} for number in range(5000)},
    }
    text, start = yaml.safe_dump(said), time.process_time()
    load(text, SETTINGS)
    assert time.process_time() - start < 8


def test_a_ceiling_of_the_presets_can_be_taken_off() -> None:
    under = policy(
        preset="multi-tenant",
        namespaces={"asr": {"ceilings": {"namespace": {"cpu": "none", "gpus": "none"}}}},
    )
    assert "cpu" not in under.together("asr")
    assert "gpus" not in under.together("asr")
    assert under.together("asr")["memory"] > 0
    assert under.together("shop")["gpus"] == 4000


def test_an_endpoint_may_be_stricter_than_the_policy_asks() -> None:
    under = policy(everywhere={"withoutNetworkPolicy": False})
    understood({"networkPolicy": {"enabled": True}}, under)
    assert "networkPolicy.enabled" in refused({"networkPolicy": {"enabled": False}}, under)


def test_who_may_not_pause_is_upgraded_all_the_same() -> None:
    """Whoever runs the installation may still hold all upgrades."""
    resource = {"metadata": {"annotations": {"whisper-operator.io/paused": "true"}}}
    assert upgrade.paused(resource, policy().of("asr").settings(SETTINGS))
    strict = policy(preset="multi-tenant").of("asr")
    assert not upgrade.paused(resource, strict.settings(SETTINGS))
    assert upgrade.paused(resource, strict.settings(replace(SETTINGS, paused=True)))


def test_the_example_of_the_readme_gives_what_it_says() -> None:
    text = (ROOT / "README.md").read_text()
    block = text[text.index("       preset: multi-tenant") :].split("\n\n")[0]
    under = load(textwrap.dedent(block), SETTINGS, crd_schema.complaints)
    ledger = Ledger()
    for number in range(4):
        spec = {
            "replicas": 4,
            "host": f"w{number}.radiology.example.com",
            "auth": {"secretName": "whisper-keys"},
        }
        resource = {"metadata": {"name": f"w{number}", "namespace": "radiology"}, "spec": spec}
        ledger.ask(resource, asked(allowed.parse(resource, SETTINGS, under.of("radiology"))))
        ledger.grant(("radiology", f"w{number}"), under)


def test_what_rules_have_in_common_may_be_written_once() -> None:
    text = (
        "preset: none\neverywhere: &all {hosts: [a.example.com]}\nnamespaces: {asr: {<<: *all, secrets: []}}"
    )
    assert set(load(text, SETTINGS).of("asr").lists) == {"hosts", "secrets"}
    other = text.replace("secrets: []", "hosts: [b.example.com]")  # said once, and once in what is taken over
    assert load(other, SETTINGS).of("asr").lists["hosts"] == ("b.example.com",)


def test_a_namespace_may_have_another_server() -> None:
    under = policy(namespaces={"staging": {"server": {"version": "2.0.0"}}})
    assert understood({}, under, "staging").image.endswith("/whisper-server:2.0.0-openai-whisper-large-v3")
    assert understood({}, under).image.endswith(":1.2.3-openai-whisper-large-v3")


@pytest.mark.parametrize(("said", "told"), [("warn", True), ("allow", False), (None, True)])
def test_who_is_open_to_all_is_told_so(said: str | None, told: bool) -> None:
    under = policy(everywhere={"publicWithoutAuth": said} if said else {})
    assert understood({"host": "a.example.com"}, under).warn_of_open is told


def test_a_policy_changes_no_child_of_what_it_allows() -> None:
    """Nothing restarts for a new policy."""
    under = policy(preset="multi-tenant", everywhere={"hosts": ["*.example.com"]})
    spec = {"host": "a.example.com", "auth": {"secretName": "whisper-keys"}}
    rules = under.of("asr")
    assert made(dict(completed(spec, rules.defaults)), settings=rules.settings(SETTINGS)) == made(spec)


B = ("shop", "whisper")


def test_who_has_a_host_is_not_named_to_other_namespaces_where_the_policy_says_so() -> None:
    held = [((claims.HOST, "w.example.com"), B)]
    with pytest.raises(SpecError) as error:
        claims.check(held, "asr", names_others=False)
    assert "A WhisperEndpoint in another namespace has the host w.example.com" in error.value.message
    assert "shop" not in error.value.message
    with pytest.raises(SpecError, match="WhisperEndpoint whisper in namespace shop has"):
        claims.check(held, "shop", names_others=False)
