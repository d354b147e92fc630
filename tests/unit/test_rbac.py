"""The role that users are told to bind: it lets the watcher read every type that it follows, and change nothing."""

from pathlib import Path

import yaml

from streams.objects.resources import OPTIONAL, RESOURCES

COMPOSE = Path(__file__).parents[2] / "compose"
RBAC = COMPOSE / "rbac.yaml"


def test_the_role_is_for_what_is_followed() -> None:
    (role,) = (each for each in yaml.safe_load_all(RBAC.read_text()) if each["kind"] == "ClusterRole")
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {
        (each.group, each.frontier.partition(".")[0], verb)
        for each in (*RESOURCES, *OPTIONAL)
        for verb in ("get", "list", "watch")
    }


def test_what_an_importer_may_do_is_what_it_does() -> None:
    """Services only with the role for derived ones; ServiceExports never but for their status."""
    roles = {}
    for file in ("import-rbac.yaml", "import-derived-rbac.yaml"):
        documents = list(yaml.safe_load_all((COMPOSE / file).read_text()))
        (role,) = (each for each in documents if each["kind"] == "ClusterRole")
        (binding,) = (each for each in documents if each["kind"] == "ClusterRoleBinding")
        assert binding["roleRef"]["name"] == role["metadata"]["name"]
        roles[role["metadata"]["name"]] = role["rules"]
    read, write = {"get", "list", "watch"}, {"create", "patch", "delete"}
    granted = {
        name: {resource: set(rule["verbs"]) for rule in rules for resource in rule["resources"]}
        for name, rules in roles.items()
    }
    assert granted == {
        "service-facets-importer": {
            "namespaces": read,
            "serviceimports": read | write,
            "serviceexports": read,
            "serviceimports/status": {"patch"},
            "serviceexports/status": {"patch"},
            "endpointslices": read | write,
        },
        "service-facets-importer-derived": {"services": read | write},
    }
    groups = {rule["resources"][0]: rule["apiGroups"] for rules in roles.values() for rule in rules}
    assert groups == {
        "namespaces": [""],
        "services": [""],
        "endpointslices": ["discovery.k8s.io"],
        "serviceexports": ["multicluster.x-k8s.io"],
        "serviceimports": ["multicluster.x-k8s.io"],
        "serviceimports/status": ["multicluster.x-k8s.io"],
    }
