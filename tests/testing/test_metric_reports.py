"""Compares the reports of small models with values computed by hand, at several world sizes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertForPreTraining

from mtask_sinks import report_metrics, weighted
from mtask_sinks.errors import ConflictError, MetricKeyError, MetricValueError, NonFiniteError, RanksDifferError
from mtask_sinks.testing import MetricRanks, MetricReports


class Bert(BertForPreTraining):
    """Reports both tasks, but next-sentence only for batches with labels for it."""

    supports_report_metrics = True

    def forward(self, input_ids, labels, next_sentence_label=None):
        out = super().forward(input_ids)
        masked = labels != -100
        mlm = nn.functional.cross_entropy(out.prediction_logits[masked], labels[masked])
        if hasattr(self, "report_metrics"):
            self.report_metrics("mlm", loss=weighted(mlm, masked.sum()), n_tokens=masked.sum())
        if next_sentence_label is not None:
            nsp = nn.functional.cross_entropy(out.seq_relationship_logits, next_sentence_label, reduction="none")
            report_metrics("nsp", loss=nsp)
        return out


@pytest.fixture(scope="module")
def bert() -> Bert:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return Bert(BertConfig(vocab_size=20, max_position_embeddings=8, **sizes)).eval()


@pytest.fixture(scope="module")
def batches() -> list[dict[str, torch.Tensor]]:
    """Make seven batches of one to three rows. Only the fifth has labels for the second task."""
    dice = torch.Generator().manual_seed(0)
    made = []
    for number in range(7):
        ids = torch.randint(0, 20, (1 + number % 3, 6), generator=dice)
        labels = torch.where(torch.rand(ids.shape, generator=dice) < 0.4, ids, -100)
        labels[0, 0] = ids[0, 0]  # at least one label
        made.append({"input_ids": ids, "labels": labels})
    made[4]["next_sentence_label"] = torch.tensor([1, 0])
    return made


@torch.no_grad()
def flat(bert, batches):
    """Compute the metrics as sums over all tokens and pairs, without this library."""
    total = tokens = 0.0
    pairs = []
    for batch in batches:
        out = BertForPreTraining.forward(bert, batch["input_ids"])
        log_probs = out.prediction_logits.double().log_softmax(-1)
        for row, labels in zip(log_probs, batch["labels"]):
            for position, label in zip(row, labels):
                if label != -100:
                    total -= position[label].item()
                    tokens += 1
        if "next_sentence_label" in batch:
            log_probs = out.seq_relationship_logits.double().log_softmax(-1)
            pairs += [-row[label].item() for row, label in zip(log_probs, batch["next_sentence_label"])]
    mlm = total / tokens
    return {
        "mlm/loss": mlm,
        "mlm/n_tokens": tokens,
        "nsp/loss": sum(pairs) / len(pairs),
        "mlm/perplexity": math.exp(mlm),
    }


RULES = {"reducers": {"*/n_tokens": "sum"}, "derived": {"mlm/perplexity": lambda m: math.exp(m["mlm/loss"])}}


@pytest.mark.parametrize("size", [1, 2, 4])
def test_any_number_of_ranks_gives_the_flat_result(bert, batches, size) -> None:
    ranks = MetricRanks(size, **RULES)
    outputs = ranks.feed(bert, batches)
    snapshot = ranks.snapshot(step=5)
    assert dict(snapshot.metrics) == pytest.approx(flat(bert, batches), rel=1e-5)
    assert dict(snapshot.counts) == {"mlm/loss": 7, "mlm/n_tokens": 7, "mlm/perplexity": 7, "nsp/loss": 1}
    assert (snapshot.step, len(outputs)) == (5, 7)
    # With every size, the first rank gets the fifth batch.
    assert [[call.task for call in reports.calls].count("nsp") for reports in ranks.reports] == [1] + [0] * (size - 1)
    assert dict(ranks.snapshot().metrics) == {}  # this window is empty


def test_one_rank_without_ranks_gives_the_same(bert, batches) -> None:
    reports = MetricReports(**RULES)
    with reports.on(bert):
        for batch in batches:
            bert(**batch)
    assert dict(reports.snapshot().metrics) == pytest.approx(flat(bert, batches), rel=1e-5)
    assert not hasattr(bert, "report_metrics")


def test_losses_of_an_unmodified_model_are_captured_on_every_rank() -> None:
    class Detector(nn.Module):
        def forward(self, x):
            return {"loss": x.sum(), "loss_dict": {"ce": x.mean(), "box": x.max()}}

    ranks = MetricRanks(2, capture={"loss_dict": "detr"})
    # Each forward counts by the size of its batch.
    ranks.feed(
        Detector(), [{"x": torch.tensor([1.0, 2.0, 6.0])}, {"x": torch.tensor([7.0])}, {"x": torch.tensor([5.0])}]
    )
    assert dict(ranks.snapshot().metrics) == {"detr/ce": (3 * 3.0 + 7 + 5) / 5, "detr/box": (3 * 6.0 + 7 + 5) / 5}


def test_steps_of_ones_own_run_in_order_in_this_thread() -> None:
    ranks, seen = MetricRanks(3, reducers={"*": "last"}), []

    def step(rank):
        seen.append(rank)
        report_metrics("a", x=float(len(seen)))
        return -rank

    assert ranks.run(step) == [0, -1, -2]
    assert ranks.run(step) == [0, -1, -2]
    assert seen == [0, 1, 2, 0, 1, 2]
    # `last` comes from the last micro-batch and there from the lowest rank: the fourth report.
    assert ranks.snapshot().metrics["a/x"] == 4.0


def test_phases_are_apart() -> None:
    ranks, reports = MetricRanks(2), MetricReports()
    for rank_phase, value in (("train", 1.0), ("eval", 3.0)):
        ranks.run(lambda rank, value=value: report_metrics(x=value + rank), phase=rank_phase)
        with reports.on(), reports.phase(rank_phase):
            report_metrics(x=value)
    assert [ranks.snapshot(phase=phase).metrics["x"] for phase in ("eval", "train")] == [3.5, 1.5]
    assert [reports.snapshot(phase=phase).metrics["x"] for phase in ("eval", "train")] == [3.0, 1.0]


def test_calls_keep_what_was_passed_and_not_what_became_of_it() -> None:
    reports, buffer = MetricReports(), torch.ones(2)
    with reports.on():
        report_metrics("a", x=buffer, y=weighted(buffer, 3), z=None)
        buffer.zero_()
        report_metrics(x=1.5)
    first, second = reports.calls
    assert (first.task, first.metrics["x"].tolist(), first.metrics["y"].weight) == ("a", [1.0, 1.0], 3)
    assert (first.metrics["y"].value.tolist(), first.metrics["z"]) == ([1.0, 1.0], None)
    assert (second.task, second.metrics) == (None, {"x": 1.5})


def test_a_noted_call_can_be_made_again() -> None:
    reports, again = MetricReports(), MetricReports()
    with reports.on():
        report_metrics("a", x=weighted(4.0, 1), y=weighted(torch.tensor(2.0), torch.tensor(3)))
        report_metrics("a", x=weighted(1.0, 3), y=5.0)
    assert reports.calls[0].metrics["x"] == weighted(4.0, 1)
    with again.on():
        for call in reports.calls:
            report_metrics(call.task, **call.metrics)
    assert again.snapshot().metrics == reports.snapshot().metrics == {"a/x": 7 / 4, "a/y": 11 / 4}


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_checkpointing_repeats_is_neither_counted_nor_noted(reentrant) -> None:
    class Block(nn.Module):
        supports_report_metrics = True

        def forward(self, x):
            self.report_metrics("a", x=x)
            return x * 2

    block, reports = Block(), MetricReports(reducers={"*": "count"})
    with reports.on(block):
        checkpoint(block, torch.ones(3, requires_grad=True), use_reentrant=reentrant).sum().backward()
    assert reports.snapshot().metrics["a/x"] == 3
    assert len(reports.calls) == 1


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_code_counts_on_every_rank() -> None:
    class Double(nn.Module):
        supports_report_metrics = True

        def forward(self, x):
            self.report_metrics("a", x=x.sum())
            return x * 2

    model = Double()
    ranks, compiled = MetricRanks(2), torch.compile(model, backend="eager", fullgraph=True)
    ranks.feed(compiled, [torch.ones(2), torch.ones(2) * 3, torch.ones(2) * 5])
    assert ranks.snapshot().metrics["a/x"] == 6.0


def test_an_error_in_a_step_says_on_which_rank_and_nothing_hangs() -> None:
    ranks = MetricRanks(4)

    def step(rank):
        report_metrics("a", x=float(rank))
        if rank == 2:
            raise ZeroDivisionError("here")

    with pytest.raises(ZeroDivisionError, match="here") as raised:
        ranks.run(step)
    assert raised.value.__notes__ == ["on rank 2 of 4"]
    report_metrics("a", x=100.0)  # no registry is active any more
    assert ranks.snapshot().metrics["a/x"] == 1.0  # the reports of ranks 0, 1 and 2


def test_the_errors_are_those_of_a_training() -> None:
    reports = MetricReports()
    with reports.on():
        with pytest.raises(MetricKeyError, match="'loss' is a name that the Trainer logs itself"):
            report_metrics(loss=1.0)
        with pytest.raises(MetricKeyError, match="Try 'mlm_loss/x'"):
            report_metrics("mlm loss", x=1.0)
        with pytest.raises(MetricValueError, match="a/x"):
            report_metrics("a", x="text")
    assert reports.calls == []
    ranks = MetricRanks(2, nonfinite="raise")
    ranks.run(lambda rank: report_metrics("a", x=math.nan if rank else 1.0))
    with pytest.raises(NonFiniteError, match="a/x"):
        ranks.snapshot()


def test_a_rank_that_registers_something_else_is_told() -> None:
    ranks = MetricRanks(2)
    ranks.reports[1].registry.register("a/x", "sum")
    ranks.reports[0].registry.register("a/x", "max")
    ranks.run(lambda rank: report_metrics("a", x=1.0))
    with pytest.raises(ConflictError, match="rank 0"):
        ranks.snapshot()


def test_ranks_that_come_to_different_results_are_told() -> None:
    results = iter([1.0, 2.0])
    ranks = MetricRanks(2, derived={"a/odd": lambda metrics: next(results)})
    ranks.run(lambda rank: report_metrics("a", x=1.0))
    with pytest.raises(RanksDifferError, match=r"rank 0 gets .* rank 1 gets .*Does a reducer or a derived metric"):
        ranks.snapshot()


def test_only_modules_can_report() -> None:
    with pytest.raises(TypeError, match=r"on\('bert'\): pass the model"), MetricReports().on("bert"):
        pass


def test_each_batch_is_a_micro_batch_and_a_list_is_passed_by_position() -> None:
    class Adds(nn.Module):
        supports_report_metrics = True

        def forward(self, one, other):
            self.report_metrics("t", total=one + other)

    reports = MetricReports(derived={"t/batches": lambda m: m["t/total"] * m["window.steps"]})
    with reports.phase("eval"):
        reports.feed(Adds(), [[1.0, 2.0], (3.0, 4.0), {"one": 5.0, "other": 3.0}])
    assert reports.snapshot(phase="eval").metrics == {"t/total": 6.0, "t/batches": 18.0}
