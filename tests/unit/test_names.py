"""What is said of a name that nothing is known of."""

import pytest

from streams.subscription.names import KnownNames, nearest, unknown_name, unknown_names

KNOWN = KnownNames(
    frozenset({"east", "west"}),
    frozenset(
        {("east", "shop", "cart"), ("west", "shop", "web"), ("east", "shop", "db"), ("east", "default", "kubernetes")}
    ),
)


@pytest.mark.parametrize(
    ("clusters", "namespaces", "services", "error"),
    [
        ([], [], [], None),
        (["east"], ["shop"], ["cart"], None),
        (["east", "west"], ["shop"], ["cart", "web"], None),
        ([], ["kube-system"], [], None),
        (["eats"], [], [], ('cluster "eats" not found', 'did you mean "east"?')),
        (["nosuch"], ["nosuch"], ["nosuch"], ('cluster "nosuch" not found', "there are east, west")),
        (["east", "wst"], [], [], ('cluster "wst" not found', 'did you mean "west"?')),
        ([], ["shpo"], ["cart"], ('namespace "shpo" not found', 'did you mean "shop"?')),
        (["west"], ["defualt"], [], ('namespace "defualt" not found in cluster "west"', "there are shop")),
        ([], ["shop"], ["crat"], ('service "crat" not found in namespace "shop"', 'did you mean "cart"?')),
        ([], ["default"], ["cart"], ('service "cart" not found in namespace "default"', 'it is in namespace "shop"')),
        ([], ["default"], ["crat"], ('service "crat" not found in namespace "default"', 'did you mean "shop/cart"?')),
        (["west"], [], ["cart"], ('service "cart" not found in cluster "west"', "there are web")),
        ([], [], ["a", "z"], ('service "a" not found; service "z" not found', "there are cart, db, kubernetes, web")),
    ],
)  # fmt: skip
def test_what_is_unknown_of_a_selection(
    clusters: list[str], namespaces: list[str], services: list[str], error: tuple[str, str] | None
) -> None:
    found = unknown_names(KNOWN, clusters, namespaces, services)
    assert (found and (str(found), found.remedy)) == error
    assert found is None or found.exit_code == 66


def test_where_nothing_is_known_nothing_is_suggested() -> None:
    assert unknown_name("router", "r1", []).remedy == ""
    assert unknown_name("cluster", "zzz", [f"c{i}" for i in range(20)]).remedy.endswith(", ...")


def test_case_does_not_hide_a_name() -> None:
    assert nearest("CART", ["cart", "web"]) == ["cart"]
