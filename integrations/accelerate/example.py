"""Your own training loop with accelerate: a registry for the metrics of each task, and sinks, without a Trainer.

The data are words of the documentation that ships with Python. One encoder learns two tasks. `length` predicts how many
letters a word has. `vowels` predicts whether more than two of them are vowels. Runs in one process, or in several with
`accelerate launch`.
"""

from __future__ import annotations

import argparse
import re
import string
from collections.abc import Sequence
from pathlib import Path
from pydoc_data.topics import topics

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mtask_sinks import MetricRegistry, RunInfo, Sink
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.sinks.base import Status
from mtask_sinks.sinks.mlflow import MLflowSink
from mtask_sinks.sinks.tensorboard.sink import TensorBoardSink

LONGEST = 12


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.EmbeddingBag(27, 32, mode="sum", padding_idx=0)
        self.hidden = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.length, self.vowels = nn.Linear(32, 1), nn.Linear(32, 1)

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(self.letters(words))
        return self.length(hidden).squeeze(-1), self.vowels(hidden).squeeze(-1)


def make_data() -> tuple[TensorDataset, TensorDataset]:
    """Return training data and held-out data: letters of each word, its length, whether it has more than two vowels."""
    words = sorted({word for text in topics.values() for word in re.findall(rf"\b[a-z]{{2,{LONGEST}}}\b", text)})
    letters = torch.tensor(
        [[1 + string.ascii_lowercase.index(letter) for letter in word] + [0] * (LONGEST - len(word)) for word in words]
    )
    length = torch.tensor([float(len(word)) for word in words])
    vowels = torch.tensor([float(sum(letter in "aeiou" for letter in word) > 2) for word in words])
    order = torch.randperm(len(words), generator=torch.Generator().manual_seed(0))
    train, held_out = order[160:], order[:160]  # whole batches, so that no process gets a word twice
    return TensorDataset(letters[train], length[train], vowels[train]), TensorDataset(
        letters[held_out], length[held_out], vowels[held_out]
    )


def losses_of(model: nn.Module, words: Tensor, length: Tensor, vowels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the losses of both tasks for each word, and whether the answer about vowels is right."""
    expected, logits = model(words)
    length_losses = nn.functional.mse_loss(expected, length, reduction="none")
    vowel_losses = nn.functional.binary_cross_entropy_with_logits(logits, vowels, reduction="none")
    return length_losses, vowel_losses, (logits > 0) == (vowels > 0)


def report(registry: MetricRegistry, length_losses: Tensor, vowel_losses: Tensor, is_right: Tensor) -> None:
    registry.report_metrics("length", loss=length_losses, n_words=len(length_losses))
    registry.report_metrics("vowels", loss=vowel_losses, accuracy=is_right)


def make_sinks(names: Sequence[str], output_dir: Path) -> list[Sink]:
    sinks: list[Sink] = []
    if "tensorboard" in names:
        sinks.append(TensorBoardSink(output_dir / "runs"))
    if "mlflow" in names:
        sinks.append(MLflowSink(f"sqlite:///{output_dir / 'mlflow.db'}", experiment="words"))
    return sinks


def train(
    accelerator: Accelerator,
    output_dir: Path,
    names: Sequence[str],
    steps: int = 60,
    log_every: int = 20,
    batch: int = 32,
) -> None:
    """Train, evaluate at each log event, and write the metrics of both to the sinks with these names."""
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    train_data, held_out = make_data()
    wrapped, optimizer, train_loader, eval_loader = accelerator.prepare(
        model, optimizer, DataLoader(train_data, batch, drop_last=True), DataLoader(held_out, batch)
    )

    registry = MetricRegistry(
        reducers={"*/n_*": "sum"}, derived={"length/rmse": lambda metrics: metrics["length/loss"] ** 0.5}
    )
    sinks = make_sinks(names, output_dir) if accelerator.is_main_process else []
    # Each sink has its own thread: if it fails, the training goes on. Only one process writes the journal.
    delivery = Delivery(sinks)
    journal_dir = str(output_dir) if accelerator.is_main_process else None
    delivery.open(RunInfo(id="words", output_dir=journal_dir, name="words", params={"batch": batch, "steps": steps}))

    def evaluate(step: int) -> None:
        with registry.phase("eval"), torch.no_grad():
            for rows in eval_loader:
                report(registry, *losses_of(wrapped, *rows))
        delivery.write(registry.snapshot(step, "eval"))

    status: Status = "failed"
    try:
        step = 0
        while step < steps:
            for rows in train_loader:
                with accelerator.accumulate(wrapped):
                    length_losses, vowel_losses, is_right = losses_of(wrapped, *rows)
                    accelerator.backward(length_losses.mean() + vowel_losses.mean())
                    optimizer.step()
                    optimizer.zero_grad()
                # The values of this process; the snapshot combines those of all processes.
                report(registry, length_losses, vowel_losses, is_right)
                if not accelerator.sync_gradients:
                    continue
                step += 1
                if step % log_every == 0:
                    snapshot = registry.snapshot(step, logs={"learning_rate": optimizer.param_groups[0]["lr"]})
                    delivery.write(snapshot)
                    accelerator.print(step, {key: float(f"{value:.4g}") for key, value in snapshot.metrics.items()})
                    evaluate(step)
                if step == steps:
                    break
        status = "finished"
    finally:
        delivery.close(status)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--report_to", nargs="*", choices=["tensorboard", "mlflow"], default=["tensorboard", "mlflow"])
    given = parser.parse_args(arguments)
    given.output_dir.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(
        cpu=True,
        gradient_accumulation_steps=2,
        dataloader_config=DataLoaderConfiguration(split_batches=True),  # each process gets a part of each batch
    )
    train(accelerator, given.output_dir, given.report_to)
    accelerator.wait_for_everyone()  # so that no process leaves the group while another still delivers
    # torch (2.13) can hang when a wrapped model is freed after its process group: free it before the group ends.
    accelerator.free_memory()
    accelerator.end_training()


if __name__ == "__main__":
    main()
