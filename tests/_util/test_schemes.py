from __future__ import annotations

from pathlib import Path

import pytest

from mtask_sinks._util.schemes import has_scheme


@pytest.mark.parametrize(
    "place", ["s3://bucket/run", "gs:/bucket", "memory://a", "hdfs+x://host:1/a", Path("s3://bucket")]
)
def test_places_in_a_store(place) -> None:
    assert has_scheme(place)


@pytest.mark.parametrize("place", ["out", "/tmp/a:/b", "C:/runs", "c:\\runs", "a b://c", "1a://b", "", Path("runs/x")])
def test_local_places(place) -> None:
    assert not has_scheme(place)
