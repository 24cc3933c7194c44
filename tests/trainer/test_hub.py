"""What a Trainer uploads, to a server on loopback that stands for the Hub: everything as before, but the journal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from helpers.hub_server import HubServer, hub_server
from helpers.toy import Silent, Toy, arguments, numbers
from huggingface_hub.utils import filter_repo_objects
from transformers import Trainer

from mtask_sinks import HfMultiTaskTrainer
from mtask_sinks.trainer.hub import keep_journal_from_hub


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[HubServer]:
    with hub_server(tmp_path / "git") as server:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", server.url)
        try:  # transformers 5 has an object of its own
            from transformers.utils.hub import hf_api
        except ImportError:
            pass
        else:
            monkeypatch.setattr(hf_api(), "endpoint", server.url)
        yield server


class NoCard:
    """A mixin that needs no license of a model for its card."""

    def create_model_card(self, **kwargs: object) -> None:
        """Write nothing."""


class TwoScales(Toy):
    """Reports two losses of very different scale, whose first values TensorBoard's sink records."""

    def extra(self, x, loss) -> None:
        super().extra(x, loss)
        self.report_metrics("b", loss=loss * 100)


class Ours(NoCard, HfMultiTaskTrainer):
    pass


class Plain(NoCard, Trainer):
    pass


def train_and_push(cls, model, directory):
    args = arguments(
        directory, push_to_hub=True, hub_model_id="me/model", hub_token="hf_x", save_strategy="steps", save_steps=2,
        hub_always_push=True, report_to="tensorboard",
    )  # fmt: skip
    trainer = cls(model(), args, train_dataset=numbers(1, 2, 3, 4))
    trainer.train()
    trainer.push_to_hub()


def kinds(commit):
    """The uploaded paths, without those of TensorBoard's writers, of which the trainers have different ones."""
    ours = ("tfevents", "first_values.mtask.jsonl")
    return {path for path in commit if not path.startswith("logs/") and not any(name in path for name in ours)}


def test_the_journal_is_not_uploaded_and_all_else_is_as_with_a_plain_trainer(hub, tmp_path) -> None:
    train_and_push(Plain, Silent, tmp_path / "plain")
    plain, hub.commits = hub.commits, []
    train_and_push(Ours, Toy, tmp_path / "ours")
    assert len(hub.commits) == len(plain) >= 2
    for commit, of_plain in zip(hub.commits, plain):
        assert kinds(commit) == kinds(of_plain) | {".gitignore"}
    assert any("tfevents" in path and path.endswith(".mtask") for path in hub.commits[-1])  # for the Hub's TensorBoard
    assert (tmp_path / "ours" / "metrics.jsonl").stat().st_size > 1000


def test_an_upload_lists_no_file_that_is_soon_gone(tmp_path, monkeypatch) -> None:
    """An upload lists all files and opens one after the other: it fails, in silence, if one of them is gone by then."""
    gone: list[Path] = []
    replace, unlink = Path.replace, Path.unlink
    monkeypatch.setattr(Path, "replace", lambda path, target: (gone.append(path), replace(path, target))[1])
    monkeypatch.setattr(Path, "unlink", lambda path, **options: (gone.append(path), unlink(path, **options))[1])
    args = arguments(tmp_path, report_to="tensorboard", logging_steps=1)
    HfMultiTaskTrainer(TwoScales(), args, train_dataset=numbers(1, 2, 3, 4)).train()
    listed = [str(path.relative_to(tmp_path)) for path in gone if path.is_relative_to(tmp_path)]
    assert len(listed) >= 2
    # What Trainer._push_from_checkpoint gives to upload_folder.
    assert not list(filter_repo_objects(listed, ignore_patterns=["_*", "checkpoint-*"]))


def test_who_names_the_journal_in_a_gitignore_decides(hub, tmp_path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / ".gitignore").write_text("*.log\n!metrics.jsonl\n")
    train_and_push(Ours, Toy, tmp_path / "ours")
    assert "metrics.jsonl" in hub.commits[-1]
    assert (tmp_path / "ours" / ".gitignore").read_text() == "*.log\n!metrics.jsonl\n"


def test_a_training_that_is_not_pushed_has_no_such_file(tmp_path) -> None:
    args = arguments(tmp_path, save_strategy="steps", save_steps=2)
    HfMultiTaskTrainer(Toy(), args, train_dataset=numbers(1, 2)).train()
    assert (tmp_path / "checkpoint-2").is_dir() and not (tmp_path / ".gitignore").exists()


def test_lines_are_added_once_and_what_was_there_stays(tmp_path) -> None:
    path = tmp_path / ".gitignore"
    path.write_text("*.log")
    for _ in range(2):
        keep_journal_from_hub(tmp_path)
    numbered = "/metrics-*.jsonl\n/metrics-*.delivery/\n"
    assert path.read_text() == f"*.log\n/metrics.jsonl\n/metrics.delivery/\n{numbered}"


def test_other_files_with_such_a_name_do_not_count(tmp_path) -> None:
    path = tmp_path / ".gitignore"
    for text in ("eval_metrics.jsonl\n", "# metrics.jsonl is large\n"):
        path.write_text(text)
        keep_journal_from_hub(tmp_path)
        assert path.read_text().startswith(f"{text}/metrics.jsonl\n")


def test_a_file_that_cannot_be_written_stops_no_training(tmp_path, caplog) -> None:
    (tmp_path / ".gitignore").mkdir()
    with caplog.at_level(logging.WARNING, "mtask_sinks"):
        keep_journal_from_hub(tmp_path)
    assert "could not be written, so the journal is uploaded to the Hub too" in caplog.text
