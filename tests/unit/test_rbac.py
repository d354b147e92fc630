"""The role that users are told to bind: it lets the watcher read every type that it follows, and change nothing."""

from pathlib import Path

import yaml

from streams.objects.resources import OPTIONAL, RESOURCES

RBAC = Path(__file__).parents[2] / "compose" / "rbac.yaml"


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
