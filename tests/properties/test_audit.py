"""A log of any size, grown in any pieces, is the tree of RFC 6962."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.audit.log_folder import LogFolder
from streams.audit.merkle import inclusion_proof, leaf_hash, root_from_proof
from tests.support.naive_merkle import files_of, naive_root


@given(st.lists(st.integers(0, 700), min_size=1, max_size=4), st.data())
def test_a_log_that_grew_in_pieces_is_the_same_and_proves_each_entry(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[int], data: st.DataObject
) -> None:
    leaves = [b"%d" % number for number in range(sum(pieces))]
    grown, at_once = (LogFolder(tmp_path_factory.mktemp("log")) for _ in range(2))
    size = 0
    for piece in pieces:
        size = grown.append(size, leaves[size : size + piece])
        assert grown.root(size) == naive_root(leaves[:size])
    at_once.append(0, leaves)
    assert files_of(at_once.path).items() <= files_of(grown.path).items()
    assert [*grown.entries(size)] == leaves
    if size:
        index = data.draw(st.integers(0, size - 1))
        proof = inclusion_proof(grown.hash_reader(size), index, size)
        assert root_from_proof(leaf_hash(leaves[index]), index, size, proof) == naive_root(leaves)
        assert [*grown.entries(size, index)] == leaves[index:]
        # What was signed before follows from the tiles of today.
        earlier = data.draw(st.integers(0, len(pieces)))
        assert grown.root(sum(pieces[:earlier]), size) == naive_root(leaves[: sum(pieces[:earlier])])
        with pytest.raises(ValueError, match="a proof of leaf"):
            root_from_proof(leaf_hash(leaves[index]), index, size, [*proof, b""])
