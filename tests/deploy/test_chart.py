from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from baimo.config import settings
from tests.deploy.chart import CHART, manifests, rendered, values

pytestmark = pytest.mark.xdist_group("chart")  # rendered once for all of them
POSTGRES = {"database": {"existingSecret": "ledger"}, "replicas": 3}
CASES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "postgres": POSTGRES,
    "everything": {
        **POSTGRES,
        "image": {"repository": "mirror.example/baimo", "digest": f"sha256:{'a' * 64}", "pullSecrets": ["pull"]},
        "secrets": ["vendor-keys"],
        "env": [{"name": "NO_PROXY", "value": ".internal"}],
        "service": {"type": "LoadBalancer", "port": 8080, "annotations": {"team": "ml"}},
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-buffering": "off"},
            "hosts": [{"host": "llm.example.com"}, {"host": "b.example.com", "path": "/v1"}],
            "tls": [{"secretName": "tls", "hosts": ["llm.example.com"]}],
        },
        "autoscaling": {"enabled": True},
        "networkPolicy": {
            "enabled": True,
            "from": [{"namespaceSelector": {"matchLabels": {"team": "ml"}}}],
            "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        },
        "serviceMonitor": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "keySecret": {"name": "baimo-viewer", "key": "key"},
        },
        "serviceAccount": {"name": "gateway", "annotations": {"a": "b"}},
        "podAnnotations": {"c": "d"},
        "podLabels": {"e": "f"},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}},
        ]}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
        ],
    },
    "open network": {"networkPolicy": {"enabled": True}},
    "a volume that is there": {"persistence": {"existingClaim": "old", "storageClass": "fast"}},
    "storage class": {"persistence": {"storageClass": "fast"}},
    "nobody's account": {"serviceAccount": {"create": False}},
    "two pods on SQLite": {"replicas": 2},
    "scaling on SQLite": {"autoscaling": {"enabled": True}},
    "nowhere to keep the ledger": {"persistence": {"enabled": False}},
}  # fmt: skip
REFUSED = {"two pods on SQLite", "scaling on SQLite", "nowhere to keep the ledger"}


@pytest.fixture(scope="module")
def texts() -> dict[str, dict[str, str]]:
    return dict(zip(CASES, rendered(list(CASES.values())), strict=True))


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


@pytest.mark.parametrize("case", sorted(set(CASES) - REFUSED))
def test_every_object_is_what_kubernetes_takes(case: str, texts: dict[str, dict[str, str]]) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate carries the schemas")
    objects = manifests(texts[case])
    assert {each["kind"] for each in objects} >= {"ConfigMap", "Deployment", "Service"}
    for each in objects:
        if each["kind"] != "ServiceMonitor":  # of the Prometheus operator, no part of Kubernetes
            for version in ("1.25", "1.34"):
                kubernetes.validate(each, version, strict=True)


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_would_lose_the_ledger_is_refused(case: str, texts: dict[str, dict[str, str]]) -> None:
    assert "database.existingSecret" in texts[case]["error"]


def test_without_values_there_is_one_pod_with_a_volume(texts: dict[str, dict[str, str]]) -> None:
    objects = manifests(texts["as it comes"])
    deployment = one(objects, "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")
    volumes = {volume["name"]: volume for volume in deployment["template"]["spec"]["volumes"]}
    assert (
        volumes["data"]["persistentVolumeClaim"]["claimName"]
        == one(objects, "PersistentVolumeClaim")["metadata"]["name"]
    )
    assert [each["kind"] for each in objects if each["kind"] == "PodDisruptionBudget"] == []


def test_with_postgres_there_are_several_pods_that_roll(texts: dict[str, dict[str, str]]) -> None:
    objects = manifests(texts["postgres"])
    deployment = one(objects, "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (3, "RollingUpdate")
    (container,) = deployment["template"]["spec"]["containers"]
    reference = next(each for each in container["env"] if each["name"] == "BAIMO_WORKSPACE_DATABASE")
    assert reference["valueFrom"]["secretKeyRef"] == {"name": "ledger", "key": "url"}
    assert one(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert "PersistentVolumeClaim" not in {each["kind"] for each in objects}


def test_everything_that_can_be_switched_on_is_there(texts: dict[str, dict[str, str]]) -> None:
    objects = manifests(texts["everything"])
    assert {each["kind"] for each in objects} == {
        "ConfigMap", "Deployment", "Service", "Ingress", "ServiceAccount", "HorizontalPodAutoscaler",
        "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor",
    }  # fmt: skip
    deployment = one(objects, "Deployment")["spec"]
    assert "replicas" not in deployment  # the autoscaler's business
    pod = deployment["template"]["spec"]
    assert pod["containers"][0]["image"] == f"mirror.example/baimo@sha256:{'a' * 64}"
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "vendor-keys"}}]
    assert pod["serviceAccountName"] == "gateway"
    assert len(one(objects, "NetworkPolicy")["spec"]["egress"]) == 2


@pytest.mark.parametrize("case", sorted(set(CASES) - REFUSED))
def test_pods_have_no_right_that_they_do_not_need(case: str, texts: dict[str, dict[str, str]]) -> None:
    pod = one(manifests(texts[case]), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["terminationGracePeriodSeconds"] > values(CASES[case])["drainSeconds"]


@pytest.mark.parametrize("case", sorted(set(CASES) - REFUSED))
def test_selectors_find_the_pods(case: str, texts: dict[str, dict[str, str]]) -> None:
    objects = manifests(texts[case])
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert one(objects, "Service")["spec"]["selector"].items() <= labels.items()
    for each in objects:
        selector = each["spec"].get("selector", {}) if "spec" in each else {}
        assert selector.get("matchLabels", {}).items() <= labels.items()


def test_the_configuration_is_valid_and_reaches_the_pod(
    texts: dict[str, dict[str, str]], tmp_path: Any
) -> None:
    words = one(manifests(texts["as it comes"]), "ConfigMap")["data"]["baimo.toml"]
    (tmp_path / "baimo.toml").write_text(words, encoding="utf-8")
    assert settings(tmp_path, environment={}).serve.host == "0.0.0.0"


def test_the_notes_name_the_endpoint(texts: dict[str, dict[str, str]]) -> None:
    assert "llm-baimo:80 " in texts["as it comes"]["NOTES.txt"]
    assert "secret ledger" in texts["postgres"]["NOTES.txt"]


SCHEMA = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", list(CASES))
def test_the_schema_takes_what_the_templates_take(case: str) -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(values(CASES[case]), SCHEMA, cls=jsonschema.Draft7Validator)


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica": 2},
        {"replicas": 0},
        {"image": {"repository": ""}},
        {"image": {"digest": "latest"}},
        {"service": {"port": 0}},
        {"persistence": {"size": "much"}},
        {"ingress": {"enabled": True}},
        {"secrets": [{"name": "x"}]},
        {"database": {"url": "postgresql://u:p@h/d"}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_misspelt_or_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values(wrong), SCHEMA, cls=jsonschema.Draft7Validator)


def test_every_value_is_in_the_schema() -> None:
    assert set(values({})) == set(SCHEMA["properties"]) - {"global"}
