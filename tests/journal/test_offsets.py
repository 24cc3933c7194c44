from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mtask_sinks.journal.offsets import Extents

# What happens to a stream: so many bytes reach the file (True) or are lost (False).
PARTS = st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=12)


@given(PARTS)
def test_positions_and_offsets_are_those_of_a_byte_by_byte_record(parts: list[tuple[bool, int]]) -> None:
    extents, stored = Extents(), []
    position = 0
    for is_stored, length in parts:
        if is_stored:
            extents.add(position, len(stored), length)
            stored += range(position, position + length)
        position += length
    for at in range(position + 1):
        assert extents.offset_of(at) == sum(byte < at for byte in stored)
        extent = extents.holding(at)
        following = [byte for byte in stored if byte >= at]
        assert (extent is None) == (not following)
        if extent is not None and following:
            first = max(at, extent.start)
            assert first == following[0]
            assert stored[extent.offset + first - extent.start] == first
    for offset, byte in enumerate(stored):
        found = extents.position_of(offset)
        assert found is not None
        assert extents.offset_of(found) == offset
        assert found <= byte
