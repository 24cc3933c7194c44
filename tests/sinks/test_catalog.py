from __future__ import annotations

from importlib.metadata import version

from mtask_sinks.sinks import catalog
from mtask_sinks.sinks.catalog import Known, known_sinks


def test_own_sinks_plugins_and_trackers_in_this_order_each_once() -> None:
    found = known_sinks()
    kinds = [each.kind for each in found]
    assert kinds == sorted(kinds, key=["sink", "plug-in", "transformers"].index)
    assert len({each.name for each in found}) == len(found)
    by_name = {each.name: each for each in found}
    assert by_name["mlflow"] == Known(
        "mlflow", "sink", "mlflow", True, version("mlflow"), "pip install 'mtask-sinks[mlflow]'"
    )
    assert by_name["example_lines"] == Known(
        "example_lines", "plug-in", "mtask-example-plugin", True, "1.0", "pip install mtask-example-plugin"
    )
    assert by_name["kubeflow"].package is None


def test_what_is_not_installed_has_no_version_but_a_way_to_get_it(monkeypatch) -> None:
    monkeypatch.setattr(catalog, "find_spec", lambda module: None)
    monkeypatch.setattr(catalog, "_version", lambda package: None)
    by_name = {each.name: each for each in known_sinks()}
    for name, get in (("wandb", "pip install 'mtask-sinks[wandb]'"), ("comet_ml", "pip install comet-ml")):
        assert (by_name[name].is_installed, by_name[name].version, by_name[name].get) == (False, None, get)
