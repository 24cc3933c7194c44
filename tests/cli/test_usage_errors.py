from __future__ import annotations

from pathlib import Path

import pytest
import typer

from mtask_sinks.cli.usage_errors import check_only, output_errors
from mtask_sinks.errors import ExportError, OutputFileError


def test_a_pattern_that_matches_no_metric_is_a_usage_error_if_there_are_metrics() -> None:
    check_only("*/loss", ["a/loss", "a/acc"])
    check_only("nix", [])  # the training has not reported any yet
    with pytest.raises(typer.BadParameter, match=r"no metric matches 'nix'. The metrics are: a/loss, a/acc\.$"):
        check_only("nix", ["a/loss", "a/acc", "a/loss"])
    with pytest.raises(typer.BadParameter, match=r"a/18, a/19, …\.$"):
        check_only("nix", [f"a/{at}" for at in range(21)])


@pytest.mark.parametrize(
    "error", [OutputFileError("no"), ExportError("no"), ImportError("no"), PermissionError(13, "no")]
)
def test_a_file_that_cannot_be_written_is_a_usage_error(error) -> None:
    with pytest.raises(typer.BadParameter, match="no"), output_errors(Path("c.svg")):
        raise error
