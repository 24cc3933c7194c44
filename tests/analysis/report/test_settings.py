from __future__ import annotations

from mtask_sinks.analysis.report.settings import chosen_settings


def test_known_parameters_come_in_the_order_in_which_people_look_for_them() -> None:
    params = {"seed": 3, "unknown": 1, "learning_rate": 0.1, "model_type": "bert"}
    assert list(chosen_settings(params)) == ["model_type", "learning_rate", "seed"]


def test_what_is_not_set_or_off_is_left_out() -> None:
    params = {"bf16": False, "optim": "", "warmup_ratio": None, "max_steps": -1, "weight_decay": 0.0}
    assert chosen_settings(params) == {}


def test_a_number_of_steps_is_shown() -> None:
    assert chosen_settings({"max_steps": 100}) == {"max_steps": 100}


def test_a_seed_of_zero_is_shown() -> None:
    assert chosen_settings({"seed": 0, "weight_decay": 0.0}) == {"seed": 0}
