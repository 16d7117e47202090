"""What deploy/ holds: the chart under several values, the compose file, the unit, the image; and the configurations in them."""

import configparser
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema_rs
import pytest
import yaml

from farthing.config import Settings, load
from farthing.config.secrets import references
from farthing.errors import ConfigError
from farthing.server.service import DRAIN_SECONDS
from farthing.wiring.serving import SETTLE_SECONDS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "farthing"
RULES = ROOT / "src" / "farthing" / "exporters" / "data" / "prometheus-rules.yaml"

_spec = importlib.util.spec_from_file_location("go_templates", ROOT / "tests" / "go_templates.py")
go_templates = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(go_templates)

EMBEDDED = {
    "replicas": 1,
    "shared": {"postgres": "", "redis": ""},
    "secretEnv": {"FARTHING_POSTGRES": None, "FARTHING_REDIS": None},
}
VALUES = {
    "as it is": {},
    "one gateway with its own ledger": EMBEDDED,
    "budgets": {"config": '[upstreams.o]\nprovider = "openai"\nmodels = ["*"]\n\n[budgets.all]\nusd = "5"\n'},
    "scaled by CPU": {"autoscaling": {"enabled": True, "maxReplicas": 12}},
    "scaled by calls in flight": {"autoscaling": {"enabled": True, "prometheus": "http://prometheus.monitoring:9090"}},
    "everything": {
        "image": {"tag": "1.2.3", "pullSecrets": [{"name": "registry"}]},
        "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {"matchLabels": {"team": "web"}}}]},
        "monitoring": {"serviceMonitor": True, "prometheusRule": True, "labels": {"release": "prometheus"}},
        "env": {"FARTHING__SERVER__WORKERS": 2, "NO_COLOR": True},
        "podAnnotations": {"team": "ml"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "persistence": {"size": "64Gi", "storageClass": "fast"},
        "service": {"type": "LoadBalancer", "port": 443, "annotations": {"internal": "true"}},
        "serviceAccount": {"annotations": {"role": "arn:aws:iam::1:role/x"}},
    },
}
EVERY = pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())

NEEDED = {
    "ConfigMap": ("v1", ["data"]),
    "Service": ("v1", ["spec.selector", "spec.ports"]),
    "ServiceAccount": ("v1", []),
    "StatefulSet": ("apps/v1", ["spec.serviceName", "spec.selector.matchLabels", "spec.template.spec.containers"]),
    "PodDisruptionBudget": ("policy/v1", ["spec.maxUnavailable", "spec.selector"]),
    "NetworkPolicy": ("networking.k8s.io/v1", ["spec.podSelector", "spec.policyTypes", "spec.ingress", "spec.egress"]),
    "HorizontalPodAutoscaler": ("autoscaling/v2", ["spec.scaleTargetRef", "spec.maxReplicas", "spec.metrics"]),
    "ScaledObject": ("keda.sh/v1alpha1", ["spec.scaleTargetRef", "spec.maxReplicaCount", "spec.triggers"]),
    "ServiceMonitor": ("monitoring.coreos.com/v1", ["spec.selector", "spec.endpoints"]),
    "PrometheusRule": ("monitoring.coreos.com/v1", ["spec.groups"]),
}
ALWAYS = ["ConfigMap", "PodDisruptionBudget", "Service", "Service", "ServiceAccount", "StatefulSet"]


def rendered(values: dict) -> list[dict]:
    """The objects of the chart, as helm makes them where it is at hand."""
    if shutil.which("helm"):
        command = ["helm", "template", "gate", str(CHART), "--namespace", "prod", "--values", "-"]
        text = subprocess.run(command, input=yaml.safe_dump(values), capture_output=True, text=True, check=True).stdout
    else:
        files = go_templates.Chart(CHART).render(values, "gate", "prod")
        text = "\n---\n".join(part for name, part in files.items() if name.endswith(".yaml"))
    return [found for found in yaml.safe_load_all(text) if found]


def of_kind(objects: list[dict], kind: str) -> list[dict]:
    return [each for each in objects if each["kind"] == kind]


def at(thing: object, path: str) -> object:
    for step in path.split("."):
        thing = thing[step]
    return thing


def container_of(objects: list[dict]) -> dict:
    (statefulset,) = of_kind(objects, "StatefulSet")
    (container,) = at(statefulset, "spec.template.spec.containers")
    return container


def settings_in(objects: list[dict], folder: Path) -> Settings:
    """What a gateway would load from the chart's ConfigMap, in the container's environment."""
    (config,) = of_kind(objects, "ConfigMap")
    file = folder / "farthing.toml"
    file.write_text(config["data"]["farthing.toml"])
    environ = {each["name"]: each["value"] for each in container_of(objects)["env"] if "value" in each}
    return load(file, environ).settings


@pytest.fixture(scope="module")
def schema() -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(json.loads((CHART / "values.schema.json").read_text()))


@EVERY
def test_the_schema_takes_the_values(schema, values):
    chart = yaml.safe_load((CHART / "values.yaml").read_text())
    assert [error.message for error in schema.iter_errors(go_templates.merged(chart, values))] == []


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 3},
        {"replicas": 0},
        {"replicas": 2, "shared": {"postgres": ""}},
        {"replicas": 1, "shared": {"postgres": ""}, "autoscaling": {"enabled": True}},
        {"shared": {"postgres": "postgresql://user:password@host/db"}},
        {"secretEnv": {"FARTHING_PEPPER": None}},
        {"secretEnv": {"FARTHING_PEPPER": "in clear"}},
        {"secretEnv": {"FARTHING_PEPPER": {"secret": "farthing", "value": "in clear"}}},
        {"image": {"repository": ""}},
        {"persistence": {"size": "16"}},
    ],
)
def test_the_schema_refuses_what_would_not_work_or_show_a_secret(schema, values):
    chart = yaml.safe_load((CHART / "values.yaml").read_text())
    assert not schema.is_valid(go_templates.merged(chart, values))


def test_every_value_is_in_the_schema():
    described = json.loads((CHART / "values.schema.json").read_text())["properties"]
    chart = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(chart) == set(described) - {"global"}
    for name, value in chart.items():
        inner = described[name].get("properties")
        assert not inner or set(value) == set(inner), name


@EVERY
def test_every_object_has_what_its_kind_needs(values):
    objects = rendered(values)
    assert sorted(each["kind"] for each in objects if each["kind"] in ALWAYS) == ALWAYS
    for each in objects:
        version, paths = NEEDED[each["kind"]]
        assert each["apiVersion"] == version
        assert re.fullmatch(r"gate(-each)?", each["metadata"]["name"])
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == "gate"
        for path in paths:
            assert at(each, path), (each["kind"], path)
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))


@EVERY
def test_every_selector_finds_the_gateways(values):
    objects = rendered(values)
    (statefulset,) = of_kind(objects, "StatefulSet")
    labels = at(statefulset, "spec.template.metadata.labels").items()
    selectors = [service["spec"]["selector"] for service in of_kind(objects, "Service")]
    selectors += [at(each, "spec.selector.matchLabels") for each in of_kind(objects, "PodDisruptionBudget")]
    selectors += [at(each, "spec.podSelector.matchLabels") for each in of_kind(objects, "NetworkPolicy")]
    for selector in [*selectors, at(statefulset, "spec.selector.matchLabels")]:
        assert selector.items() <= labels
    (headless,) = (each for each in of_kind(objects, "Service") if each["spec"].get("clusterIP") == "None")
    assert statefulset["spec"]["serviceName"] == headless["metadata"]["name"]
    for monitor in of_kind(objects, "ServiceMonitor"):
        assert at(monitor, "spec.selector.matchLabels").items() <= headless["metadata"]["labels"].items()


@EVERY
def test_a_gateway_may_do_nothing_that_it_need_not(values):
    objects = rendered(values)
    (statefulset,) = of_kind(objects, "StatefulSet")
    pod, container = at(statefulset, "spec.template.spec"), container_of(objects)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
    assert container["resources"]["limits"]["memory"]


@EVERY
def test_what_is_written_is_on_a_disk_that_outlives_the_gateway(values, tmp_path):
    objects = rendered(values)
    (statefulset,) = of_kind(objects, "StatefulSet")
    (claim,) = at(statefulset, "spec.volumeClaimTemplates")
    mounted = {mount["name"]: mount["mountPath"] for mount in container_of(objects)["volumeMounts"]}
    assert mounted[claim["metadata"]["name"]] == settings_in(objects, tmp_path).ledger.path
    assert set(at(statefulset, "spec.persistentVolumeClaimRetentionPolicy").values()) == {"Retain"}
    gib = int(at(claim, "spec.resources.requests.storage").removesuffix("Gi"))
    assert gib > 8, "the journal alone may take 8 GiB"


@EVERY
def test_a_stopping_gateway_gets_the_time_it_takes(values):
    objects = rendered(values)
    (statefulset,) = of_kind(objects, "StatefulSet")
    notice = at(container_of(objects), "lifecycle.preStop.sleep.seconds")
    grace = at(statefulset, "spec.template.spec.terminationGracePeriodSeconds")
    assert grace >= notice + DRAIN_SECONDS + SETTLE_SECONDS + 5


def test_probes_ask_what_there_is_to_ask(gateway):
    container = container_of(rendered({}))
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/healthz",
        "readiness": "/readyz",
        "liveness": "/healthz",
    }
    for probe in probes.values():
        assert probe["port"] in [port["name"] for port in container["ports"]]
        assert gateway.get(probe["path"], {"host": "10.1.2.3:8787"}).status == 200


@EVERY
def test_the_configuration_loads_and_every_secret_in_it_is_given(values, tmp_path):
    objects = rendered(values)
    settings = settings_in(objects, tmp_path)
    container = container_of(objects)
    (port,) = container["ports"]
    assert (settings.server.host, settings.server.port) == ("0.0.0.0", port["containerPort"])
    given = {each["name"]: each.get("valueFrom") for each in container["env"]}
    for name, reference in references(settings):
        variable = reference.removeprefix("env:")
        assert given[variable]["secretKeyRef"].keys() == {"name", "key"}, name
    assert all(len(each) == 2 for each in container["env"])


@EVERY
def test_no_gateway_counts_budgets_for_itself(values, tmp_path):
    objects = rendered(values)
    settings = settings_in(objects, tmp_path)
    (statefulset,) = of_kind(objects, "StatefulSet")
    scalers = of_kind(objects, "HorizontalPodAutoscaler") + of_kind(objects, "ScaledObject")
    assert ("replicas" in statefulset["spec"]) == (not scalers), "two would set the number of gateways"
    most = [each["spec"].get("maxReplicas") or each["spec"].get("maxReplicaCount") for each in scalers]
    assert settings.shared.replicas == (most or [statefulset["spec"]["replicas"]])[0]


def test_a_section_that_the_chart_writes_cannot_be_written_twice(tmp_path):
    with pytest.raises(ConfigError):
        settings_in(rendered({"config": "[server]\nport = 1\n"}), tmp_path)


def test_another_configuration_is_another_pod():
    def annotations(values: dict) -> dict:
        (statefulset,) = of_kind(rendered(values), "StatefulSet")
        return at(statefulset, "spec.template.metadata.annotations")

    assert annotations({}) == annotations({"persistence": {"size": "20Gi"}})
    assert annotations({}) != annotations(VALUES["budgets"])


def test_the_scaler_asks_for_a_metric_that_there_is(gateway):
    (scaler,) = of_kind(rendered(VALUES["scaled by calls in flight"]), "ScaledObject")
    query = at(scaler, "spec.triggers")[0]["metadata"]["query"]
    (metric,) = re.findall(r"farthing_\w+", query)
    assert f"# TYPE {metric} gauge" in gateway.get("/metrics").body.decode()
    assert 'namespace="prod",service="gate-each"' in query


def test_the_chart_brings_the_rules_that_ship_and_scrapes_with_the_token():
    objects = rendered(VALUES["everything"])
    (rule,), (monitor,) = of_kind(objects, "PrometheusRule"), of_kind(objects, "ServiceMonitor")
    assert rule["spec"] == yaml.safe_load(RULES.read_text())
    (endpoint,) = at(monitor, "spec.endpoints")
    assert endpoint["path"] == "/metrics"
    assert at(endpoint, "authorization.credentials") == {"name": "farthing", "key": "admin-token"}
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_notes_name_a_pod_and_a_verb_that_there_are():
    notes = go_templates.Chart(CHART).render(EMBEDDED, "gate", "prod")["NOTES.txt"]
    assert "exec gate-0 -- farthing key new NAME" in notes
    assert "no other may be added" in notes


def test_the_template_subset_refuses_what_it_does_not_know(tmp_path):
    folder = tmp_path / "chart"
    shutil.copytree(CHART, folder)
    (folder / "templates" / "odd.yaml").write_text("{{ lookup .Values.env }}")
    with pytest.raises(ValueError, match="lookup"):
        go_templates.Chart(folder).render({}, "gate", "prod")


def compose() -> dict:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_compose_keeps_no_secret_and_starts_with_none():
    services = compose()["services"]
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|PEPPER|KEY|_POSTGRES$|_REDIS$", variable):
                assert re.search(r"\$\{\w+(:\?.+|:-)\}", value), (name, variable)
    assert "CHANGEME" not in (DEPLOY / "compose.yaml").read_text().upper()


def test_compose_is_whole():
    document = compose()
    services, volumes = document["services"], set(document["volumes"])
    assert set(services) == {"farthing", "postgres", "valkey", "prometheus"}
    for name, service in services.items():
        assert service["restart"] == "unless-stopped"
        assert service["security_opt"] == ["no-new-privileges:true"]
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in volumes or (DEPLOY / source).exists(), (name, source)
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
        for secret in service.get("secrets", []):
            assert secret in document["secrets"]
    gateway = services["farthing"]
    assert gateway["read_only"]
    assert gateway["cap_drop"] == ["ALL"]
    for store, condition in gateway["depends_on"].items():
        assert condition == {"condition": "service_healthy"}
        assert services[store]["healthcheck"]["test"]
    assert int(gateway["stop_grace_period"].removesuffix("s")) > DRAIN_SECONDS + SETTLE_SECONDS
    build = DEPLOY / gateway["build"]["context"]
    assert (build / gateway["build"]["dockerfile"]).exists()


def test_compose_asks_its_stores_where_they_are_and_they_forget_nothing():
    services = compose()["services"]
    environment = services["farthing"]["environment"]
    settings = load(DEPLOY / "farthing.toml", environment).settings
    assert settings.shared.replicas == 1
    for name, reference in references(settings):
        address = environment[reference.removeprefix("env:")]
        if "://" in address:
            assert urlsplit(re.sub(r"\$\{.*?\}", "x", address)).hostname in services, name
    command = " ".join(services["valkey"]["command"])
    for option in ("--appendonly yes", "--maxmemory-policy noeviction", "--requirepass"):
        assert option in command
    mounted = dict(volume.split(":")[:2] for volume in services["farthing"]["volumes"])
    assert mounted["journal"] == settings.ledger.path
    assert mounted["./farthing.toml"] == environment["FARTHING_CONFIG"]


def test_prometheus_scrapes_with_the_token_that_compose_gives_it():
    config = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())
    (job,) = config["scrape_configs"]
    (secret,) = compose()["services"]["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    targets = {volume.split(":")[1] for volume in compose()["services"]["prometheus"]["volumes"]}
    assert set(config["rule_files"]) <= targets


def test_the_example_configuration_loads_and_says_no_secret():
    text = (DEPLOY / "farthing.toml").read_text()
    settings = load(DEPLOY / "farthing.toml", {}).settings
    assert settings.shared.replicas > 1
    assert {reference.partition(":")[0] for _, reference in references(settings)} == {"env"}
    assert set(tomllib.loads(text)) <= set(Settings.__struct_fields__)


def instructions() -> list[list[str]]:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_image_runs_as_nobody_in_particular_and_has_the_stores():
    last = dict(instructions())
    assert [word for word, _ in instructions()].count("FROM") == 2
    (pod,) = {at(each, "spec.template.spec.securityContext.runAsUser") for each in of_kind(rendered({}), "StatefulSet")}
    assert last["USER"] == f"{pod}:{pod}"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = re.search(r"\[([\w,]+)\]\"", (DEPLOY / "Dockerfile").read_text())[1].split(",")
    assert {"redis", "postgres"} == set(wanted) <= set(extras)
    assert last["ENTRYPOINT"] == '["farthing"]'
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            assert all((ROOT / source).exists() for source in rest.split()[:-1])


UNIT = DEPLOY / "systemd" / "farthing.service"
KNOWN = """
Description Wants After StartLimitIntervalSec StartLimitBurst Type ExecStart Environment EnvironmentFile Restart RestartSec
TimeoutStopSec LimitNOFILE DynamicUser StateDirectory StateDirectoryMode UMask AmbientCapabilities CapabilityBoundingSet
LockPersonality MemoryDenyWriteExecute NoNewPrivileges PrivateDevices PrivateTmp ProtectClock ProtectControlGroups ProtectHome
ProtectHostname ProtectKernelLogs ProtectKernelModules ProtectKernelTunables ProtectProc ProtectSystem RemoveIPC
RestrictAddressFamilies RestrictNamespaces RestrictRealtime RestrictSUIDSGID SystemCallArchitectures SystemCallErrorNumber
SystemCallFilter WantedBy
"""


def test_the_unit_is_one_that_systemd_takes(tmp_path):
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    unit.optionxform = str
    unit.read_string(UNIT.read_text())
    assert unit.sections() == ["Unit", "Service", "Install"]
    assert {name for section in unit.sections() for name in unit[section]} <= set(KNOWN.split())
    service = unit["Service"]
    assert int(service["TimeoutStopSec"]) > DRAIN_SECONDS + SETTLE_SECONDS
    assert service["DynamicUser"] == service["NoNewPrivileges"] == "yes"
    assert service["Environment"] == f"FARTHING__LEDGER__PATH=%S/{service['StateDirectory']}"
    if shutil.which("systemd-analyze"):
        copy = tmp_path / UNIT.name
        copy.write_text(UNIT.read_text().replace("/opt/farthing/bin/farthing", sys.executable))
        verify = ["systemd-analyze", "verify", str(copy)]
        verified = subprocess.run(verify, capture_output=True, text=True, check=False)
        assert (verified.returncode, UNIT.name in verified.stderr) == (0, False), verified.stderr
