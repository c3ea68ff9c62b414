"""What a policy allows, and how its parts add up."""

from dataclasses import replace

import pytest
from whisper_operator import claims
from whisper_operator.apply import upgrade
from whisper_operator.policy.defaults import completed
from whisper_operator.policy.rules import Policy
from whisper_operator.spec.endpoint import SpecError

from tests.unit.making import SETTINGS, Body, made
from tests.unit.policies import policy, refused, understood


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
        ({"cidr": "fd00:1::/32"}, [{"cidr": "fd00::/8"}], True),
        ({"cidr": "fc00::/7"}, [{"cidr": "fd00::/8"}], False),
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


@pytest.mark.parametrize("spec", [None, {}])
def test_no_spec_at_all_is_held_against_the_lists_as_an_empty_one_is(spec: Body | None) -> None:
    assert "'nvidia-tesla-t4', which is the default" in refused(spec, policy(everywhere={"accelerators": []}))


def test_what_is_no_spec_is_told() -> None:
    with pytest.raises(SpecError, match="spec must be a mapping, not 'x'"):
        understood("x", policy(everywhere={"accelerators": []}))


def test_of_a_long_list_of_what_is_allowed_some_is_told() -> None:
    under = policy(everywhere={"staticIPNames": [f"ip-{number}" for number in range(9)]})
    message = refused({"host": "a.example.com", "staticIPName": "x"}, under)
    assert "(allowed staticIPNames: ip-0, ip-1, ip-2, ip-3, ip-4, ip-5, ip-6, ip-7, ...)" in message


def test_no_more_may_be_used_of_what_a_node_can_run_out_of_than_is_requested() -> None:
    under = policy(everywhere={"overcommit": False})
    for name in ("memory", "ephemeral-storage"):
        given = {"requests": {name: "16Gi"}, "limits": {name: "17Gi"}}
        assert f"spec.resources.limits.{name} 17Gi, which is more than is requested (16Gi;" in refused(
            {"resources": given}, under
        )
        understood({"resources": given}, policy())
    understood({"resources": {"requests": {"cpu": 1}, "limits": {"cpu": 2}}}, under)


def test_a_model_is_allowed_by_either_of_its_names() -> None:
    for name in ("large", "large-v3"):
        understood({"model": name}, policy(everywhere={"models": ["large-v3"]}))
    understood({"model": "large"}, policy(everywhere={"models": ["large"]}))


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
