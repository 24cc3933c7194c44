"""Checks, on a GPU, that a report never makes the host wait, and that a log event copies once per device.

This module also measures what reporting adds to a training step of BERT-base, on 8 texts of 512 tokens, in bf16, with
AdamW. The ways of reporting take turns in one process, one window of steps each. Without a GPU the rows say
"not measured".
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.rows import Row, at_most, not_measured
from mtask_sinks import MetricRegistry, weighted

KEYS, STEPS = 64, 50
# Steps per turn of a way of reporting.
_TURN = 20
COUNTS = (1, 16, 64, 256)
_WAITS = "CUDA: whether the host waits between two log events (0: never), 64 losses, a view, a vector, a weight"
_COPIES = "CUDA: copies to the host per log event, one device"
_STEP = "CUDA: a step of BERT-base (bf16) that reports {}: {}, compared with the same step without reports"
_KINDS = [*(f"{count} 0-d tensors" for count in COUNTS), "a loss per token, [8, 2048]"]

#: A way of reporting has two functions. Each step calls the first one, with its loss and the loss of each token. The
#: end of a window calls the second one.
Way = tuple[Callable[[Tensor, Tensor], None], Callable[[], None]]


def measure(quick: bool) -> list[Row]:
    """Measure, and return the rows."""
    if not torch.cuda.is_available():
        why = "no GPU"
        steps = [not_measured(_STEP.format(kind, "ours"), "", why) for kind in _KINDS]
        return [not_measured(_WAITS, "0", why), not_measured(_COPIES, "1", why), *steps]
    return [*_counts(), *_steps(quick)]


def _counts() -> list[Row]:
    registry = MetricRegistry()
    _report(registry)
    registry.snapshot(step=0)
    waits = 0
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(STEPS):
            _report(registry)
    except RuntimeError:  # in this mode, the first operation that waits raises this error
        waits = 1
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        registry.snapshot(step=1)
        torch.cuda.synchronize()
    copies = sum(event.count for event in seen.key_averages() if "Memcpy DtoH" in event.key)
    return [at_most(_WAITS, waits, 0, "{:.0f}"), at_most(_COPIES, copies, 1, "{:.0f}")]


def _report(registry: MetricRegistry) -> None:
    logits = torch.randn(8, 100, device="cuda", requires_grad=True) * 2.0
    values: dict[str, Any] = {f"loss_{number}": logits[number % 8].square().mean() for number in range(KEYS)}
    values |= {"view": logits[0, 0], "row": logits[0], "mean": weighted(logits.mean(), (logits > 0).sum())}
    registry.report_metrics("t", **values)


def _steps(quick: bool) -> list[Row]:
    step = _training_step()
    rows = []
    for count in COUNTS:
        values = _ways_of_scalars(count)
        rows += _rows(f"{count} 0-d tensors", step, values, quick)
    return rows + _rows("a loss per token, [8, 2048]", step, _ways_of_tokens(), quick)


def _rows(kind: str, step: Callable[[Way], None], ways: dict[str, Way], quick: bool) -> list[Row]:
    nothing: Way = (lambda loss, tokens: None, lambda: None)
    times = _take_turns(step, {"nothing": nothing, **ways}, 2 if quick else 5)
    base = median(times["nothing"])
    rows = []
    for name in ways:
        more = median(one / other - 1.0 for one, other in zip(times[name], times["nothing"], strict=True))
        rows.append(Row(_STEP.format(kind, name), "", f"{more:+.1%} (of {base * 1e3:.1f} ms)"))
    return rows


def _take_turns(step: Callable[[Way], None], ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """Return the seconds per step of each way, one number per window."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    order, draw = list(ways), random.Random(0)
    for number in range(rounds + 1):  # the first round warms up
        draw.shuffle(order)
        for name in order:
            torch.cuda.synchronize()
            begin = time.perf_counter()
            for _ in range(_TURN):
                step(ways[name])
            ways[name][1]()
            torch.cuda.synchronize()
            if number:
                times[name].append((time.perf_counter() - begin) / _TURN)
    return times


def _training_step() -> Callable[[Way], None]:
    from transformers.models.bert.configuration_bert import BertConfig
    from transformers.models.bert.modeling_bert import BertForMaskedLM

    torch.manual_seed(0)
    with torch.device("cuda"):
        model = BertForMaskedLM(BertConfig())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(5, 30_000, (8, 512), device="cuda")

    def step(way: Way) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(input_ids=ids).logits
            tokens = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none")
            loss = tokens.mean()
        way[0](loss, tokens.view(8, 512))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def _ways_of_scalars(count: int) -> dict[str, Way]:
    names = [f"value_{number}" for number in range(count)]
    scales = torch.linspace(0.5, 1.5, count, device="cuda")

    def values(loss: Tensor) -> dict[str, Tensor]:
        return dict(zip(names, (loss * scales).unbind(), strict=True))

    registry, sums, gathered = MetricRegistry(), dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)

    def item(loss: Tensor, tokens: Tensor) -> None:
        for name, value in values(loss).items():
            sums[name] += value.item()

    def gather(loss: Tensor, tokens: Tensor) -> None:  # what it costs to gather every value, even without other ranks
        for name, value in values(loss).items():
            gathered[name] += torch.stack([value.detach()]).mean().item()

    return {
        "making the values only": (lambda loss, tokens: (values(loss), None)[1], lambda: None),
        "ours": (
            lambda loss, tokens: registry.report_metrics("t", **values(loss)),
            lambda: (registry.snapshot(step=1), None)[1],
        ),
        "item() per value": (item, lambda: None),
        "a gather per value and step": (gather, lambda: None),
    }


def _ways_of_tokens() -> dict[str, Way]:
    registry, sums = MetricRegistry(), [0.0, 0]

    def item(loss: Tensor, tokens: Tensor) -> None:
        wide = tokens.repeat(1, 4)
        sums[0] += wide.sum().item()
        sums[1] += wide.numel()

    def gather(loss: Tensor, tokens: Tensor) -> None:
        sums[0] += torch.stack([tokens.repeat(1, 4).detach()]).cpu().sum().item()

    return {
        "making the values only": (lambda loss, tokens: (tokens.repeat(1, 4), None)[1], lambda: None),
        "ours": (
            lambda loss, tokens: registry.report_metrics("t", loss=tokens.repeat(1, 4)),
            lambda: (registry.snapshot(step=1), None)[1],
        ),
        "item() of the sum": (item, lambda: None),
        "a gather per step": (gather, lambda: None),
    }
