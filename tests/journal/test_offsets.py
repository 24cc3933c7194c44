from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mtask_sinks.journal.offsets import StreamOffsets

# What happens to a stream: so many bytes reach the file (True) or are lost (False).
PARTS = st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=12)


@given(PARTS)
def test_positions_and_offsets_are_those_of_a_byte_by_byte_record(parts: list[tuple[bool, int]]) -> None:
    offsets, stored = StreamOffsets(), []
    position = 0
    for is_stored, length in parts:
        if is_stored:
            offsets.add(position, len(stored), length)
            stored += range(position, position + length)
        position += length
    for at in range(position + 1):
        assert offsets.offset_of(at) == sum(byte < at for byte in stored)
        segment = offsets.segment_at(at)
        following = [byte for byte in stored if byte >= at]
        assert (segment is None) == (not following)
        if segment is not None and following:
            first = max(at, segment.position)
            assert first == following[0]
            assert stored[segment.offset + first - segment.position] == first
    for offset, byte in enumerate(stored):
        found = offsets.position_of(offset)
        assert found is not None
        assert offsets.offset_of(found) == offset
        assert found <= byte
