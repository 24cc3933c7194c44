"""A journal from somebody else does not choose where a replay writes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import ClassVar

import pytest
from helpers.event_files import read_scalars
from helpers.journals import losses, write

from mtask_sinks import RunInfo, Sink
from mtask_sinks.delivery.cursor import cursor_path
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.delivery.replay import replay
from mtask_sinks.errors import UntrustedJournalError
from mtask_sinks.sinks import MemorySink, TensorBoardSink


class ServerSink(MemorySink):
    """Keeps its runs on a server, as MLflow and W&B do: a run is found by its id."""

    name: ClassVar[str] = "server"

    def open(self, run: RunInfo) -> None:
        super().open(run)
        self.id = run.existing(self.name) or f"new-{run.id}"

    def target(self) -> str:
        return self.id


def files_of(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


@pytest.fixture
def foreign(tmp_path) -> Path:
    """The directory of somebody else, with a sibling in which the replay has nothing to do."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "mine").mkdir()
    return tmp_path / "theirs"


@pytest.mark.parametrize("kind", ["continued", "attached"])
@pytest.mark.parametrize("where", ["{mine}", "{theirs}/../mine", "../mine", "{theirs}/runs/../../mine"])
def test_a_directory_elsewhere_is_refused_and_nothing_is_written(foreign, kind, where, monkeypatch) -> None:
    mine = foreign.parent / "mine"
    monkeypatch.chdir(foreign)
    place = where.format(mine=mine, theirs=foreign)
    write(foreign, (RunInfo(id="1", name="x", **{kind: {"tensorboard": place}}), losses(1, 2), "finished"))
    before = files_of(foreign.parent)
    with pytest.raises(UntrustedJournalError, match=r"outside of .*--trust"):
        replay(foreign, [TensorBoardSink()])
    assert files_of(foreign.parent) == before
    replay(foreign, [TensorBoardSink()], trust=True)
    assert read_scalars(mine)


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/x", "..", "a/../../..", "../mine", ".", "a\0b", "x" * 400, "\x1b[2J"]
)
@pytest.mark.parametrize("field", ["name", "id"])
def test_a_name_does_not_lead_out_of_the_directory(foreign, name, field) -> None:
    write(foreign, (RunInfo(**{"id": "1", field: name}), losses(1, 2), "finished"))
    counts = replay(foreign, [TensorBoardSink()])["tensorboard"]
    assert (counts.state, counts.delivered) == ("closed", 2)
    assert {path.split("/")[0] for path in files_of(foreign.parent)} == {"theirs"}
    (events,) = [path for path in files_of(foreign) if "tfevents" in path]
    assert events.startswith("runs/")
    assert ".." not in Path(events).parts


@pytest.mark.parametrize("key", ["../x", "../../x", "./x", "a\0/x", "/x", "..//x", "\x1b[2J/x"])
def test_a_key_does_not_lead_out_of_the_directory_of_the_run(foreign, key) -> None:
    write(foreign, (RunInfo(id="1", name="r"), [], "finished"))
    snapshot = {**json.loads(snapshot_line()), "metrics": {key: 1.0}}
    lines = (foreign / "metrics.jsonl").read_text().splitlines()
    (foreign / "metrics.jsonl").write_text("\n".join([lines[0], json.dumps(snapshot), lines[1], ""]))
    replay(foreign, [TensorBoardSink(layout="overlay")], patience=5)
    assert {path.split("/")[0] for path in files_of(foreign.parent)} == {"theirs"}
    assert {path.split("/")[0] for path in files_of(foreign / "runs")} <= {"r"}


def snapshot_line() -> bytes:
    from mtask_sinks.journal.records import encode

    return encode(losses(1)[0])


@pytest.mark.parametrize("link", ["runs", "runs/x", "runs/x/a", "metrics.delivery", "metrics.jsonl"])
def test_a_link_does_not_lead_out_of_the_directory(foreign, link) -> None:
    mine = foreign.parent / "mine"
    write(foreign, (RunInfo(id="1", name="x"), losses(1, 2), "finished"))
    if link == "metrics.jsonl":
        (foreign / link).rename(mine / link)
    (foreign / link).parent.mkdir(parents=True, exist_ok=True)
    (foreign / link).symlink_to(mine / link if link == "metrics.jsonl" else mine)
    before = {path: (mine / path).read_bytes() for path in files_of(mine)}
    with pytest.raises(UntrustedJournalError):
        replay(foreign, [TensorBoardSink(layout="overlay")])
    assert {path: (mine / path).read_bytes() for path in files_of(mine)} == before


def test_the_directory_that_the_user_has_chosen_is_used_whatever_the_journal_says(foreign, monkeypatch) -> None:
    mine = foreign.parent / "mine"
    write(foreign, (RunInfo(id="1", name="../../x"), losses(1, 2), "finished"))
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(mine))
    replay(foreign, [TensorBoardSink()])
    assert read_scalars(mine)
    write(foreign, (RunInfo(id="2", continued={"tensorboard": str(mine / "2")}), losses(1, 2), "finished"))
    replay(foreign, [TensorBoardSink()])
    assert read_scalars(mine / "2")
    write(foreign, (RunInfo(id="3", continued={"tensorboard": str(foreign.parent / "3")}), losses(1, 2), "finished"))
    with pytest.raises(UntrustedJournalError):
        replay(foreign, [TensorBoardSink()])


@pytest.mark.parametrize("kind", ["continued", "attached", "cursor"])
def test_a_run_of_a_server_is_used_only_if_this_user_has_written_to_it(foreign, kind) -> None:
    names = {} if kind == "cursor" else {kind: {"server": "prod"}}
    write(foreign, (RunInfo(id="1", **names), losses(1, 2), "finished"))
    if kind == "cursor":
        replay(foreign, [ServerSink()], what="new")
        cursor = foreign / "metrics.delivery" / "server.json"
        cursor.write_text(json.dumps({**json.loads(cursor.read_text()), "targets": {"1": "prod"}, "offset": 0}))
    sink = ServerSink()
    with pytest.raises(UntrustedJournalError, match="the run prod of server, to which you have not delivered"):
        replay(foreign, [sink])
    assert not sink.runs
    replay(foreign, [sink], what="new")
    assert sink.target() != "prod"
    trusted = ServerSink()
    replay(foreign, [trusted], what="all", trust=True) if kind != "cursor" else replay(foreign, [trusted], trust=True)
    replay(foreign, [ServerSink()], what="all")  # which this user has written to by now


def test_what_a_training_of_this_user_wrote_to_is_known_without_a_word(tmp_path) -> None:
    delivery = Delivery([ServerSink()])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path), continued={"server": "mine"}))
    delivery.write(losses(1)[0])
    delivery.close("finished")
    sink = ServerSink()
    replay(tmp_path, [sink], what="all")
    assert (sink.target(), [s.step for s in sink.snapshots]) == ("mine", [1])


def test_a_journal_of_this_user_that_somebody_changed_names_no_other_run(tmp_path) -> None:
    delivery = Delivery([ServerSink()])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path), continued={"server": "mine"}))
    delivery.write(losses(1)[0])
    delivery.close("finished")
    path = tmp_path / "metrics.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    other = json.loads(first) | {"id": "2", "continued": {"server": "prod"}, "process": ["elsewhere", 1, ""]}
    path.write_bytes(first + b"".join(rest) + json.dumps(other).encode() + b"\n" + snapshot_line())
    with pytest.raises(UntrustedJournalError, match="the run prod of server"):
        replay(tmp_path, [ServerSink()], what="all")


def test_a_backend_does_not_find_a_run_of_this_user_by_the_id_in_a_journal_of_somebody_else(foreign) -> None:
    theirs = "0a1b2c3d"  # the id of a training of this user, known from a journal that was shared
    write(foreign, (RunInfo(id=theirs), losses(1), "finished"))
    sinks = [ServerSink(), ServerSink(), ServerSink()]
    replay(foreign, sinks[:1])
    replay(foreign, sinks[1:2], what="new", trust=True)
    cursor_path(foreign / "metrics.jsonl", ServerSink.name).unlink()
    replay(foreign, sinks[2:], what="all", trust=True)
    assert theirs not in sinks[0].target()
    assert theirs not in sinks[1].target()  # new runs have new ids
    assert sinks[2].target() == f"new-{theirs}"


def test_a_sink_that_says_nothing_about_its_places_is_asked_for_its_run() -> None:
    class Plain(Sink):
        name: ClassVar[str] = "plain"

        def write(self, snapshot) -> None: ...

    assert Plain().chosen_by(RunInfo(continued={"plain": "a"})) == "a"
    assert Plain().chosen_by(RunInfo()) is None
    assert TensorBoardSink("mine").chosen_by(RunInfo(continued={"tensorboard": os.sep})) is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such terminals")
def test_on_a_terminal_the_command_asks_and_in_a_pipe_it_refuses(foreign) -> None:
    import pty
    import subprocess
    import sys

    for name in ("a", "b"):
        place = {"tensorboard": str(foreign.parent / "mine" / name)}
        write(foreign / name, (RunInfo(id=name, name="x\x1b[2J", continued=place), losses(1, 2), "finished"))
    command = [sys.executable, "-m", "mtask_sinks", "replay", str(foreign), "--to", "tensorboard"]
    refused = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=100)
    without_input = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *command], capture_output=True, text=True, timeout=100
    )
    assert refused.returncode == without_input.returncode == 1
    assert refused.stderr.count("with --trust") == 2 and without_input.stderr == refused.stderr
    assert not files_of(foreign.parent / "mine")
    ours, theirs = pty.openpty()
    os.write(ours, b"n\ny\n")
    asked = subprocess.run(command, stdin=theirs, stdout=theirs, stderr=theirs, timeout=100)
    os.close(theirs)
    text = b""
    while chunk := _read(ours):
        text += chunk
    assert asked.returncode == 1  # one was not delivered
    assert text.count(b"Write there? [y/N]") == 2
    assert b"b  tensorboard: 2 delivered" in text
    assert {path.split("/")[0] for path in files_of(foreign.parent / "mine")} == {"b"}


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # nobody has it open any more
        return b""
