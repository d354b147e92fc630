"""What `facets serve` says of the clusters that it is to serve."""

import logging

import pytest

from streams.subscription.names import warn_of_unknown


def test_a_cluster_that_is_not_known_is_named_with_the_nearest(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_unknown(logging.getLogger("facets.serve"), ("east", "wset"), {"east", "west"})
    assert caplog.messages == ['cluster wset is not known yet; did you mean "west"?']
