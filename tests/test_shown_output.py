"""Each console block of the README and the documentation shows what its commands print.

`helpers.documents` describes the blocks and the comparison. A block that no test can compare says so above itself:
``<!-- not compared: needs two machines -->``.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers.doctor_journals import cursor, journal, train
from helpers.documents import DOCUMENTS, Command, commands_of, difference, read_blocks, sides
from helpers.journals import losses, write

from mtask_sinks import RunInfo
from mtask_sinks.analysis.progress import Watch

pytestmark = pytest.mark.long

PROGRAMS = {
    "python": [sys.executable],
    "mtask-sinks": [sys.executable, "-m", "mtask_sinks"],
    "torchrun": [sys.executable, "-m", "torch.distributed.run"],
}
#: The pages show this directory in place of the one in which a command ran.
HOME = "/home/me/project"
#: Seconds that a command may take; on an idle machine the slowest takes 20.
LIMIT = 480

#: The pages show a demonstration of 2250 steps. The tests run a short one, so its numbers are other ones.
DEMO = "mtask-sinks demo"
SHORT_DEMO = "mtask-sinks demo --output_dir out --max_steps {}"
#: Run while the demonstration runs.
DURING_DEMO = "mtask-sinks watch out/demo-1 --only '*/loss'"


@dataclass(frozen=True)
class Printed:
    """What a command printed: results on one stream, progress bars and messages on the other."""

    out: str
    err: str

    def difference(self, shown: str, any_number: bool) -> str:
        """How both streams differ from what a page shows; empty if one of them does not."""
        found = [difference(shown, text, any_number) for text in (self.out, self.err)]
        return found[0] if all(found) else ""


class Running:
    """A command of a page that runs in a directory."""

    def __init__(self, command: str, directory: Path) -> None:
        variables, program, arguments = words_of(command)
        self._command, self._directory = command, directory
        self._folder = tempfile.TemporaryDirectory()
        self._streams = [Path(self._folder.name, name) for name in ("out", "err")]
        words = [*PROGRAMS[program], *arguments]
        if "--check" in arguments:
            words += ["--timeout", str(LIMIT)]  # a busy machine may take longer than the default to import MLflow
        with self._streams[0].open("w") as out, self._streams[1].open("w") as err:
            self._process = subprocess.Popen(
                words, cwd=directory, env=environment() | variables, stdout=out, stderr=err, start_new_session=True
            )

    def is_running(self) -> bool:
        return self._process.poll() is None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Halt it, with the processes that it has started."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)

    def printed(self) -> Printed:
        """What it printed, once it has ended; its exit status does not matter."""
        try:
            self._process.wait(LIMIT)
        finally:
            self._process.kill()
        texts = [stream.read_text().replace("\r", "\n") for stream in self._streams]
        # A sink of a training that has just begun may still be starting; the pages show one that is up.
        texts = [re.sub(" (starting|behind) ", " up ", text.replace(str(self._directory), HOME)) for text in texts]
        out, err = texts
        return Printed(selected(out, self._command), err)


def environment() -> dict[str, str]:
    """Without settings of backends and terminals; one thread per process, because processes share the cores."""
    settings = ("MLFLOW_", "WANDB_", "TENSORBOARD_", "COLUMNS", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    return {**kept, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "WANDB_SILENT": "true", "CUDA_VISIBLE_DEVICES": ""}


def words_of(command: str) -> tuple[dict[str, str], str, list[str]]:
    """The variables that a command sets, its program and its arguments."""
    words = shlex.split(command.partition(" | ")[0])
    variables = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    return variables, Path(words[0]).name, words[1:]


def selected(printed: str, command: str) -> str:
    """What ``| jq '.a[0].b'`` at the end of a command lets through."""
    path = re.search(r" \| jq '(.+)'$", command)
    if path is None or not printed:
        return printed
    value = json.loads(printed)
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path[1]):
        value = value[name or int(index)]
    return json.dumps(value, indent=2)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Printed]]:
    """The directory of a demonstration, and what it and a command during it printed."""
    steps = 7
    while True:
        directory = tmp_path_factory.mktemp("demo")
        training, run = Running(SHORT_DEMO.format(steps), directory), directory / "out" / "demo-1"
        while training.is_running() and not has_curves(run):
            time.sleep(0.2)
        during = None
        if training.is_running():
            with training.held():
                if Watch(run).progress().status == "running":
                    during = Running(DURING_DEMO, directory).printed()
        printed = training.printed()
        if during is not None:
            return directory, {DURING_DEMO: during, DEMO: printed}
        steps *= 2  # on a busy machine, it may end before this process has looked at it
        assert steps < 500, printed


def has_curves(run: Path) -> bool:
    """Whether a training has curves of its log events and evaluations, its time left, and a worker of each sink."""
    progress = Watch(run).progress()
    phases = {row.phase for row in progress.rows if row.change is not None}
    return {"train", "eval"} <= phases and len(progress.sinks) == 3 and progress.seconds_left is not None


def prepare_doctor(directory: Path) -> None:
    """The script and the training that the page about the doctor examines."""
    (directory / "train.py").write_text(SCRIPT)
    (directory / "data.py").write_text("rows = []\n")
    good = [train(step, nsp_loss=1.0)[0] for step in range(50, 4200, 50)]
    nan = [train(step, nsp_loss=math.nan)[0] for step in range(4200, 5800, 50)]
    bert = directory / "out" / "bert"
    bert.mkdir(parents=True)
    path = journal(bert, [*good, *nan])
    sixty = b"".join(path.read_bytes().splitlines(keepends=True)[: 1 + 60])
    error = "MlflowException: API request to http://127.0.0.1:5000 failed"
    cursor(path, "mlflow", offset=len(sixty), delivered=60, state="down", error=error)


SCRIPT = """\
from data import rows
from mtask_sinks import HfMultiTaskTrainer
from torch import nn

class Model(nn.Module):
    supports_report_metrics = True

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 1)

    def forward(self, x):
        loss = self.body(x).pow(2).mean()
        self.report_metrics(loss=loss)
        return (loss,)


HfMultiTaskTrainer(Model(), train_dataset=rows).train()
"""


def prepare_resume(directory: Path) -> None:
    """The journals of two machines, of which the second resumed the training of the first."""
    for name, run in (("node-1", RunInfo(id="1")), ("node-2", RunInfo(id="2", step=4))):
        (directory / name / "out").mkdir(parents=True)
        write(directory / name / "out", (run, losses(run.step + 2, run.step + 4), "finished"))


PREPARED: dict[str, Callable[[Path], None]] = {"docs/doctor.md": prepare_doctor, "docs/resume.md": prepare_resume}


def shown_by(page: str) -> list[Command]:
    """The commands of a page below which it shows output that a test compares."""
    blocks = [block for block in read_blocks(page) if block.language == "console" and not block.not_compared]
    return [command for block in blocks for command in commands_of(block) if command.output]


@pytest.mark.skipif(version("transformers") < "5", reason="transformers 4 prints numbers in another way")
@pytest.mark.parametrize("page", [page for page in DOCUMENTS if shown_by(page)])
def test_commands_print_what_the_page_shows(page: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    blocks, commands = read_blocks(page), shown_by(page)
    printed_before: dict[str, Printed] = {}
    if any(command.text == DEMO or "out/demo-" in command.text for command in commands):
        demo_directory, printed_before = request.getfixturevalue("demo")
        if not any(block.file for block in blocks):
            (tmp_path / "out").symlink_to(demo_directory / "out")
    for block in blocks:
        if block.file:
            (tmp_path / block.file).write_text(sides(block.code)[1] if block.language == "diff" else block.code)
    if page in PREPARED:
        PREPARED[page](tmp_path)
    wrong = []
    for command in commands:
        printed = printed_before.get(command.text) or Running(command.text, tmp_path).printed()
        of_demo = command.text in printed_before or "out/demo-" in command.text
        if found := printed.difference(command.output, any_number=of_demo):
            errors = "" if printed.out else printed.err[-3000:]
            wrong.append(f"{page}:{command.line}: $ {command.text}\n{found}\n{errors}")
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("page", DOCUMENTS)
def test_every_block_is_compared_or_says_why_not(page: str) -> None:
    for block in read_blocks(page):
        where = f"{page}:{block.line}"
        if block.not_compared:
            assert len(block.not_compared.split()) > 1, f"{where}: say why the block is not compared."
        elif block.language == "console":
            assert block.code.startswith("$ "), f"{where}: a console block begins with a command, '$ ...'."
            for command in commands_of(block):
                known = not command.output or words_of(command.text)[1] in PROGRAMS
                assert known, f"{where}: the tests cannot run {command.text!r}. Write: <!-- not compared: why -->"
        else:
            assert block.language in ("python", "sh", "diff", "toml"), (
                f"{where}: show output in a console block below its command, or write: <!-- not compared: why -->"
            )
            assert not (block.language == "sh" and re.search(r"^\$ ", block.code, re.MULTILINE)), (
                f"{where}: commands with '$ ' belong into a console block."
            )


def test_the_fences_of_every_page_are_blocks() -> None:
    for page, path in DOCUMENTS.items():
        fences = re.findall(r"^ *```", path.read_text(), re.MULTILINE)
        assert len(fences) == 2 * len(read_blocks(page)), page
