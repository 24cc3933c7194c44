"""Scripts for the checks of the calls of ``report_metrics``."""

from __future__ import annotations

from helpers.doctor_scripts import REGISTRY, REPORTS, reporting

COLLATE = "def collate(batch):\n    report_metrics('data', n=len(batch))\n    return batch\n"
HELPS = "def helps(task, **values):\n    report_metrics(task, **values)\n"
COLLATOR = "class Collator:\n    def __call__(self, batch):\n        report_metrics('data', n=len(batch))\n"
ROWS = (
    "from torch.utils.data import Dataset\n"
    "class Rows(Dataset):\n    def __getitem__(self, i):\n        report_metrics('data', n=i)\n"
)


def in_workers(before: str, given: str, workers: str = "2") -> str:
    """Make a script whose trainer loads its data in worker processes."""
    return f"{reporting(more=f', {given}')}{before}TrainingArguments(out, dataloader_num_workers={workers})\n"


CASES = {
    "not-imported": (
        [("def loss(x):\n    report_metrics('a', loss=x)", "the call raises NameError")],
        [
            "from mtask_sinks import report_metrics\nreport_metrics('a', loss=x)",
            "from helpers import *\nreport_metrics('a', loss=x)",
            "def loss(x, report_metrics):\n    report_metrics('a', loss=x)",
            "def report_metrics(**values):\n    pass\nreport_metrics(loss=x)",
            "import mtask_sinks\nreport_metrics = mtask_sinks.report_metrics\nreport_metrics('a', loss=x)",
        ],
    ),
    "positional-values": (
        [
            (reporting('"a", x'), "Pass values by keyword"),
            (reporting("1.0"), "by position"),
            (reporting('{"loss": x}'), "by position"),
        ],
        [
            reporting("name, loss=x"),
            reporting("None, loss=x"),
            'import kubeflow.katib as katib\nkatib.report_metrics({"loss": 1.0})',
        ],
    ),
    "needless-conversion": (
        [
            (reporting('"a", loss=x.item()'), ".item() is not needed"),
            (reporting('"a", loss=x.mean().detach()'), "a report keeps only the numbers of a tensor."),
            (reporting('"a", loss=weighted(x.item(), n)'), "makes the host wait"),
        ],
        [reporting('"a", loss=x.mean()'), reporting('"a", n=int(x.sum())'), "y = x.item()\n" + reporting()],
    ),
    "report-in-worker": (
        [
            (in_workers(COLLATE, "data_collator=collate"), "workers (dataloader_num_workers=2)"),
            (in_workers(COLLATE, "data_collator=collate"), "report it in forward or compute_loss"),
            (in_workers(HELPS + COLLATE.replace("report_metrics", "helps"), "data_collator=collate"), "collate runs"),
            (in_workers(COLLATOR, "data_collator=Collator(4)"), "Collator.__call__ runs in"),
            (in_workers(COLLATOR + "collator = Collator(4)\n", "data_collator=collator"), "Collator.__call__ runs in"),
            (in_workers("", "data_collator=lambda batch: report_metrics('a', n=len(batch))"), "a lambda runs in"),
            (in_workers(ROWS, "train_dataset=Rows()"), "Rows.__getitem__ runs in"),
            (REPORTS + ROWS + "from torch.utils import data\ndata.DataLoader(Rows(), num_workers=4)", "num_workers=4"),
            (REGISTRY + COLLATE.replace("report_metrics", "registry.report_metrics")
             + "registry = MetricRegistry()\nT(data_collator=collate, dataloader_num_workers=1)", "collate runs in"),
        ],
        [
            in_workers(COLLATE, "data_collator=collate", workers="0"),
            in_workers(COLLATE, "data_collator=collate", workers="args.workers"),
            in_workers(COLLATE, "compute_metrics=collate"),
            in_workers(COLLATE.replace("report_metrics", "print"), "data_collator=collate"),
            in_workers(ROWS.replace("Dataset)", "nn.Module)"), "model=Rows()"),
            in_workers(ROWS.replace("__getitem__", "summarize"), "train_dataset=Rows()"),
            COLLATE + "dict(data_collator=collate, num_workers=4)",
            reporting() + "TrainingArguments(out, dataloader_num_workers=4)",
        ],
    ),
}  # fmt: skip
