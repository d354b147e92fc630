"""ReferenceGrants that can't be read."""

from streams.objects.gateway_api.grants import Grants

SERVICE = ("shop", "cart")


def test_what_an_unreadable_grant_permits_is_not_known_until_it_is_gone() -> None:
    grants = Grants()
    assert grants.reject(("shop", "g"))
    assert grants.refusal("HTTPRoute", "team", SERVICE) == "GrantUnreadable"
    assert grants.refusal("HTTPRoute", "shop", SERVICE) == ""
    assert grants.take(("shop", "g"), None)
    assert grants.refusal("HTTPRoute", "team", SERVICE) == ""


def test_one_without_a_name_is_none() -> None:
    grants = Grants()
    assert not grants.reject(("shop", ""))
    assert grants.refusal("HTTPRoute", "team", SERVICE) == ""
