from __future__ import annotations

import transformers
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from mtask_sinks.sinks.trackers import TRACKERS


def test_every_tracker_of_transformers_is_in_the_table() -> None:
    assert set(INTEGRATION_TO_CALLBACK) <= set(TRACKERS)


def test_the_table_has_no_more_than_the_newest_transformers() -> None:
    if int(transformers.__version__.partition(".")[0]) >= 5:
        assert set(TRACKERS) == set(INTEGRATION_TO_CALLBACK)
