from __future__ import annotations

from importlib.metadata import version

import transformers
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from mtask_sinks.sinks import listing
from mtask_sinks.sinks.listing import TRACKERS, SinkListing, list_sinks
from mtask_sinks.sinks.lookup import BACKENDS


def test_own_sinks_plugins_and_trackers_in_this_order_each_once() -> None:
    listings = list_sinks()
    kinds = [listing.kind for listing in listings]
    assert kinds == sorted(kinds, key=["sink", "plug-in", "transformers"].index)
    assert len({listing.name for listing in listings}) == len(listings)
    by_name = {listing.name: listing for listing in listings}
    assert by_name["mlflow"] == SinkListing(
        "mlflow", "sink", "mlflow", True, version("mlflow"), "pip install 'mtask-sinks[mlflow]'"
    )
    assert by_name["example_lines"] == SinkListing(
        "example_lines", "plug-in", "mtask-example-plugin", True, "1.0", "pip install mtask-example-plugin"
    )
    assert by_name["kubeflow"].package is None


def test_what_is_not_installed_has_no_version_but_a_way_to_get_it(monkeypatch) -> None:
    monkeypatch.setattr(listing, "find_spec", lambda module: None)
    monkeypatch.setattr(listing, "_version", lambda package: None)
    by_name = {listing.name: listing for listing in list_sinks()}
    for name, get in (("wandb", "pip install 'mtask-sinks[wandb]'"), ("comet_ml", "pip install comet-ml")):
        assert (by_name[name].is_installed, by_name[name].version, by_name[name].get) == (False, None, get)


def test_every_tracker_of_transformers_is_in_the_table() -> None:
    assert set(INTEGRATION_TO_CALLBACK) <= {*TRACKERS, *BACKENDS}


def test_the_table_has_no_more_than_the_newest_transformers() -> None:
    if int(transformers.__version__.partition(".")[0]) >= 5:
        assert {*TRACKERS, *BACKENDS} == set(INTEGRATION_TO_CALLBACK)
