"""`facets translate`: what a router would get of objects in files."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from streams.cli.past.translate import translate_command
from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from tests.support.routed_service import service
from tests.unit.xds import world

NAME = "cart.shop.svc.cluster.local:80"
SERVICE = {"apiVersion": "v1", **service()}


def slice_of(*addresses: str) -> dict[str, Any]:
    return {"apiVersion": "discovery.k8s.io/v1", **world.slice_of(*map(world.endpoint, addresses))}


def translate(*options: str, text: str = "", exit_code: int = 0) -> Any:
    result = CliRunner().invoke(translate_command, list(options), input=text)
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout) if exit_code == 0 and "yaml" not in options else result


def addresses_of(resources: Any) -> list[str]:
    (assignment,) = resources["eds"]
    return [
        endpoint["endpoint"]["address"]["socket_address"]["address"]
        for locality in assignment.get("endpoints", ())
        for endpoint in locality["lb_endpoints"]
    ]


def manifest(*objects: Any) -> str:
    return "".join("---\n" + yaml.safe_dump(item) for item in objects)


def test_an_envoy_gets_clusters_endpoints_and_routes() -> None:
    resources = translate(text=manifest(SERVICE, slice_of("10.1.0.1", "10.1.0.2")))
    assert list(resources) == ["cds", "eds", "rds"]
    assert [cluster["name"] for cluster in resources["cds"]] == [NAME]
    assert [routes["name"] for routes in resources["rds"]] == [NAME]
    assert addresses_of(resources) == ["10.1.0.1", "10.1.0.2"]


def test_a_grpc_client_gets_listeners_too_and_types_can_be_chosen() -> None:
    text = json.dumps({"kind": "List", "items": [SERVICE, slice_of("10.1.0.1")]})
    assert list(translate("--grpc", text=text)) == ["cds", "eds", "lds", "rds"]
    assert list(translate("--only", "lds,cds", text=text)) == ["cds", "lds"]


def test_yaml_says_the_same() -> None:
    text = manifest(SERVICE, slice_of("10.1.0.1"))
    assert yaml.safe_load(translate("-o", "yaml", text=text).stdout) == translate(text=text)


def test_a_default_by_direction_decides_and_gives_the_cluster_ip() -> None:
    text = manifest(SERVICE, slice_of("10.1.0.1"))
    assert addresses_of(translate("--gateway-default", "service", "--traffic", "gateway", text=text)) == ["10.96.0.7"]
    assert addresses_of(translate("--gateway-default", "service", text=text)) == ["10.1.0.1"]


def test_of_several_clusters_a_client_gets_its_own_and_what_all_export(tmp_path: Path) -> None:
    options = []
    export = {"apiVersion": "multicluster.x-k8s.io/v1beta1", **world.exported_cart()}
    for name, own in (("east", "10.1.0.1"), ("west", "10.1.0.2")):
        (tmp_path / name).write_text(manifest(SERVICE, slice_of(own, "10.1.0.9"), export))
        options += ["--cluster", f"{name}={tmp_path / name}"]
    by_name = {
        assignment["cluster_name"]: {
            endpoint["endpoint"]["address"]["socket_address"]["address"]: (
                endpoint["metadata"]["filter_metadata"]["facets"]["cluster"]
            )
            for locality in assignment["endpoints"]
            for endpoint in locality["lb_endpoints"]
        }
        for assignment in translate(*options, "--client-cluster", "west")["eds"]
    }
    assert by_name == {
        NAME: {"10.1.0.2": "west", "10.1.0.9": "west"},
        NAME.replace("cluster.local", "clusterset.local"): {"10.1.0.1": "east", "10.1.0.2": "west", "10.1.0.9": "west"},
    }
    without = translate(*options)["eds"]
    assert [assignment["cluster_name"] for assignment in without] == list(by_name)
    assert "10.1.0.2" not in str(without[0])


def test_what_can_not_be_read_is_named_and_the_rest_is_translated() -> None:
    result = translate(text=manifest(SERVICE, slice_of("10.1.0.1")) + "---\na: [\n", exit_code=1)
    assert isinstance(result.exception, FacetsError)
    assert result.exception.exit_code == ExitCode.BAD_DATA
    assert "neither JSON nor YAML" in result.stderr
    assert NAME in result.stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--only", "ads"], "'ads' is none of cds, eds, lds, rds"),
        (["--cluster", "east"], "'east' is not NAME=FILE"),
        (["--cluster", "east=/no/such/file"], "No such file"),
    ],
)
def test_options_that_are_wrong_are_explained(options: list[str], text: str) -> None:
    result = translate(*options, exit_code=2)
    assert text in result.stderr


def test_files_are_of_one_cluster_or_of_several(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(manifest(SERVICE))
    result = translate(str(tmp_path / "a"), "--cluster", f"east={tmp_path / 'a'}", exit_code=2)
    assert "not both" in result.stderr
