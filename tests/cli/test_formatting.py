from __future__ import annotations

import json
import math

from mtask_sinks.cli.formatting import to_json


def test_json_is_strict_and_keeps_other_letters() -> None:
    text = to_json({"größe": [math.inf, -math.inf, math.nan, 1.5]})
    assert text == '{"größe": ["Infinity", "-Infinity", "NaN", 1.5]}'
    json.loads(text, parse_constant=lambda constant: 1 / 0)
