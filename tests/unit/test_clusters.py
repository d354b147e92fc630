"""Which clusters the options name, and how each is reached."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.errors import FacetsError
from streams.kube.clusters import BadKubeconfig, ClusterConfig, cluster_configs, load_access, slug


def kubeconfig(tmp_path: Path, contexts: tuple[str, ...] = ("east", "west"), **cluster: Any) -> Path:
    path = tmp_path / "config"
    content = {
        "current-context": contexts[0],
        "contexts": [{"name": each, "context": {"cluster": "c", "user": "u"}} for each in contexts],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1", **cluster}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_current_context_names_the_cluster(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path)
    assert cluster_configs(kubeconfig=path) == [ClusterConfig("east", path, "east")]
    assert cluster_configs(kubeconfig=path, context="west") == [ClusterConfig("west", path, "west")]
    assert [each.name for each in cluster_configs(kubeconfig=path, every_context=True)] == ["east", "west"]


def test_clusters_by_name(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path)
    named = cluster_configs(kubeconfig=path, clusters=["a=east", "b=west"], cluster_domain="corp")
    assert named == [ClusterConfig("a", path, "east", "corp"), ClusterConfig("b", path, "west", "corp")]
    assert cluster_configs(kubeconfig=path, context="west", clusters=["a"]) == [ClusterConfig("a", path, "west")]
    # A context may have an equals sign.
    assert cluster_configs(clusters=["a=x=y"])[0].context == "x=y"


@pytest.mark.parametrize("clusters", [["a b"], [""], ["-a"], ["a-"], ["a/b=c"], ["a=x", "a=y"], ["a", "b"]])
def test_names_that_no_row_could_carry(clusters: list[str]) -> None:
    with pytest.raises(FacetsError) as raised:
        cluster_configs(clusters=clusters)
    assert raised.value.exit_code == 2
    assert raised.value.remedy


@pytest.mark.parametrize(
    ("context", "name"),
    [
        ("east", "east"),
        ("kubernetes-admin@kubernetes", "kubernetes-admin-kubernetes"),
        ("arn:aws:eks:eu-1:12:cluster/shop", "arn-aws-eks-eu-1-12-cluster-shop"),
        ("gke_p_z_c", "gke_p_z_c"),
        ("/x/", "x"),
    ],
)
def test_a_name_from_a_context(context: str, name: str) -> None:
    assert slug(context) == name


def test_in_a_pod_without_a_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert cluster_configs() == [ClusterConfig("in-cluster")]
    assert cluster_configs(clusters=["east"]) == [ClusterConfig("east")]


@pytest.mark.parametrize("content", ["", "[]", "{", "a: b", "clusters: 7", "contexts: [7]\ncurrent-context: x"])
def test_a_broken_kubeconfig_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(BadKubeconfig) as raised:
        cluster_configs(kubeconfig=path)
    assert "--kubeconfig" in raised.value.remedy
    with pytest.raises(BadKubeconfig, match="cluster east"):
        load_access(ClusterConfig("east", path, "x"))


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "none"
    with pytest.raises(BadKubeconfig, match=str(path)):
        cluster_configs(kubeconfig=path)
    with pytest.raises(BadKubeconfig, match=str(path)):
        load_access(ClusterConfig("east", path))
    monkeypatch.setenv("KUBECONFIG", f"{path}:{path}2")
    with pytest.raises(BadKubeconfig, match=f"{path}:{path}2"):
        cluster_configs()
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(BadKubeconfig, match=str(tmp_path / ".kube" / "config")) as raised:
        cluster_configs()
    assert "--demo" in raised.value.remedy


def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, ("production-east", "production-west", "x"))
    with pytest.raises(BadKubeconfig, match="no context 'production-eest'") as raised:
        load_access(ClusterConfig("east", path, "production-eest"))
    assert str(path) in str(raised.value)
    assert raised.value.remedy.startswith("it has production-west, production-east and others")


def test_a_broken_file_is_not_shown(tmp_path: Path) -> None:
    """Its lines may hold credentials."""
    path = tmp_path / "config"
    path.write_text("users:\n- name: u\n  user: {token: very-secret\n")
    with pytest.raises(BadKubeconfig) as raised:
        load_access(ClusterConfig("east", path))
    assert "line 4" in str(raised.value)
    assert "very-secret" not in str(raised.value)


def with_plugin(tmp_path: Path, **plugin: Any) -> ClusterConfig:
    path = kubeconfig(tmp_path)
    content = yaml.safe_load(path.read_text())
    content["users"] = [{"name": "u", "user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1", **plugin}}}]
    path.write_text(yaml.safe_dump(content))
    return ClusterConfig("east", path)


@pytest.mark.parametrize(
    ("plugin", "problem", "remedy"),
    [
        ({"command": "no-such-plugin"}, "not installed, or not on PATH", "see that no-such-plugin is installed"),
        ({"command": "no-such-plugin", "installHint": "brew install\n it"}, "not installed", "brew install it"),
        ({"command": "sh", "args": ["-c", "echo expired session >&2; exit 3"]}, "returned 3. expired session", "sh"),
        ({"command": "echo", "args": ["{}"]}, "missing key 'apiVersion'", "echo"),
        ({"command": "./bin/none"}, "No such file", "./bin/none"),
    ],
)
def test_a_credential_plugin_that_gives_none(
    tmp_path: Path, plugin: dict[str, Any], problem: str, remedy: str, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = with_plugin(tmp_path, **plugin)
    with pytest.raises(BadKubeconfig) as raised:
        load_access(cluster)
    assert problem in str(raised.value)
    assert str(cluster.kubeconfig) in str(raised.value)
    assert remedy in raised.value.remedy
    # Not also as a line of another package that names neither cluster nor plugin.
    assert not caplog.records


def test_a_credential_plugin(tmp_path: Path) -> None:
    credential = (
        '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "secret"}}'
    )
    access = load_access(with_plugin(tmp_path, command="echo", args=[credential]))
    assert access.authorization() == "Bearer secret"


def test_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    access = load_access(ClusterConfig("east", kubeconfig(tmp_path)))
    assert (access.host, access.proxy, access.authorization()) == ("http://127.0.0.1:1", None, "Bearer secret")
    access = load_access(ClusterConfig("east", kubeconfig(tmp_path, **{"proxy-url": "http://other:2"})))
    assert access.proxy == "http://other:2"


def test_a_kubeconfig_of_many_contexts_is_parsed_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []
    real = yaml.safe_load

    def safe_load(text: Any) -> Any:
        parsed.append(1)
        return real(text)

    names = tuple(f"c{number}" for number in range(20))
    path = kubeconfig(tmp_path, names)
    monkeypatch.setattr(yaml, "safe_load", safe_load)
    for name in names:
        assert load_access(ClusterConfig(name, path, name)).authorization() == "Bearer secret"
    assert len(parsed) == 1
    path.write_text(path.read_text().replace("secret", "renewed"))
    assert load_access(ClusterConfig("c1", path, "c1")).authorization() == "Bearer renewed"
