"""What an attacker would try: journals, names and environments that are made to do harm, against every way out.

One journal holds every hostile text in every field, and every secret. Each command runs on it once; each case then
looks for one text in the output of one command.
"""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from helpers.journals import losses
from rich.console import Console
from typer.testing import CliRunner

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.progress import Watch
from mtask_sinks.charts import make_chart, open_runs, write_chart
from mtask_sinks.cli import app
from mtask_sinks.cli.watch_lines import item_line
from mtask_sinks.cli.watch_view import make_frame
from mtask_sinks.console.text import TaskLines
from mtask_sinks.delivery.cursor import Cursor, cursor_path
from mtask_sinks.journal.history import read_journal
from mtask_sinks.journal.records import encode, fingerprint_of
from mtask_sinks.note import Note

# Texts that command a terminal, or that change what a reader believes to see.
TERMINAL = {
    "title": "\x1b]0;owned\x07", "title by ST": "\x1b]2;owned\x1b\\", "clear": "\x1b[2J\x1b[H", "reset": "\x1bc",
    "clipboard": "\x1b]52;c;cm0gLXJmIC8=\x07", "link": "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",
    "other screen": "\x1b[?1049h", "scroll back": "\x1b[3J", "up": "\x1b[9A", "hide": "\x1b[8m", "red": "\x1b[31m",
    "paste": "\x1b[200~rm -rf /\x1b[201~", "device": "\x1bP$q\x1b\\", "application": "\x1b_Gi=1\x1b\\",
    "private": "\x1b^x\x1b\\", "report": "\x1b[6n", "answer": "\x1b[c", "font": "\x1b]50;x\x07", "print": "\x1b[5i",
    "CSI of C1": "\x9b2J", "OSC of C1": "\x9d0;owned\x9c", "DCS of C1": "\x90q\x9c", "NEL": "a\x85b", "SS3": "\x8fA",
    "newline": "a\nmlm/loss 0.0", "return": "good\rbad", "backspace": "bad\x08\x08\x08good", "bell": "\x07",
    "tab": "a\tb", "vertical": "a\x0bb", "form feed": "a\x0cb", "zero": "a\x00b", "delete": "a\x7fb",
    "escape": "a\x1b", "shift out": "\x0e", "substitute": "\x1a", "override": "txt\u202egnp",
    "embed": "\u202ba\u202c", "isolate": "\u2067a\u2069", "mark": "\u200fa", "Arabic mark": "\u061ca",
    "line": "a\u2028b", "paragraph": "a\u2029b", "invisible": "lo\u200bss", "order": "\ufeffloss",
    "tags": "loss\U000e0041\U000e007f", "joiner": "lo\u2060ss", "fill": "\u180eloss",
}  # fmt: skip
# Texts that a page, a template, a spreadsheet or a picture may take for code.
MARKUP = {
    "script": "<script>pwned()</script>", "end of script": "</script><script>pwned()</script>",
    "image": "<img src=x onerror=pwned()>", "svg": "<svg onload=pwned()>",
    "svg script": "<svg><script>pwned()</script>", "quote": "\" onmouseover=\"pwned()",
    "quote 2": "' onmouseover='pwned()", "comment": "<!--<script>pwned()",
    "style": "</style><script>pwned()</script>", "title": "</title><script>pwned()</script>",
    "body": "<body onload=pwned()>", "frame": "<iframe src=javascript:pwned()>",
    "address": "<a href=\"javascript:pwned()\">x</a>", "base": "<base href=//pwned>",
    "meta": "<meta http-equiv=refresh content=0;url=//pwned>", "form": "<form action=//pwned><input autofocus>",
    "braces": "{{ 7 * 191 }}", "block": "{% include 'pwned' %}", "comment of jinja": "{# pwned #}",
    "dollar": "${7*191}", "entity": "&lt;script&gt;pwned()", "number": "&#60;script&#62;",
    "cdata": "]]><script>pwned()</script>", "bold": "<b>pwned</b>", "sub": "<sub>pwned</sub>",
    "math": "$\\frac{1}{$", "math 2": "$\\undefined$", "rich": "[bold red]pwned[/]",
    "rich link": "[link=http://pwned]x[/link]", "rich end": "[/pwned]", "emoji": ":skull:", "percent": "%s%n%(x)s",
    "format": "{0.__class__}{x!r}", "markdown": "|a|b|", "markdown link": "[a](javascript:pwned())",
    "formula": "=cmd|'/C calc'!A1", "plus": "+1+1", "minus": "-1+1", "at": "@SUM(1)", "blank": "  =1+1",
    "tabbed": "\t=1+1", "wide": "＝1+1", "separators": "a,b;c\"d'e", "prototype": "__proto__",
    "constructor": "constructor", "path": "../../../pwned", "long": "x" * 5000, "blank name": "   ", "device": "CON",
    "option": "--help",
}  # fmt: skip
TEXTS = [*TERMINAL.items(), *((f"{name} (markup)", text) for name, text in MARKUP.items())]

# Places, in the journal of names, of the runs with several texts or with secrets.
GROUPED = range(len(TEXTS), len(TEXTS) + (len(TEXTS) + 9) // 10 + 1)

# Each holds a part that no output may show; the name tells where a user would have it.
SECRETS = {
    "address": "http://me:S{}q@host/api", "slash": "http://me:a/S{}q@host", "token": "http://S{}q@host",
    "at": "http://me:a@S{}q@host", "query": "https://host/x?sig=S{}q&y=1",
    "aws": "https://s3/x?X-Amz-Signature=S{}q", "json": '{{"api_key": "S{}q"}}', "repr": "Client(password='S{}q')",
    "pair": "password=S{}q", "option": "--token S{}q", "header": "Authorization: Bearer S{}q",
    "github": "ghp_S{}qaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "openai": "sk-S{}qa1b2a1b2a1b2a1b2a1b2",
    "gitlab": "glpat-S{}qa1b2a1b2a1b2a1b2", "hub": "hf_S{}qaBcDaBcDaBcDaBcDaBcDaBcD",
    "slack": "xoxb-S{}q-123456789012", "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJS{}qMTIzNDU2In0.abc",
    "quoted": "next=http%3A%2F%2Fme%3AS{}q%40host", "two": "http://a:b@one http://c:S{}q@two",
}  # fmt: skip
MARKS = {name: f"S{at:03}q" for at, name in enumerate(SECRETS)}
SECRET_TEXTS = {name: text.format(f"{at:03}") for at, (name, text) in enumerate(SECRETS.items())}
SECRET_NAMES = ["secret_key", "wandbApiKey", "api-key", "db_pwd", "authorization", "AWS_SESSION_TOKEN", "privateKey"]

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
HIDDEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)


def write_hostile(directory: Path) -> Path:
    """Write a journal in which every field holds what an attacker would put there, and cursors of the same kind."""
    directory.mkdir()
    params: dict[str, Any] = {text: text for _, text in TEXTS}
    params |= {f"note_{name}": [text, {"in": text}] for name, text in SECRET_TEXTS.items()}
    params |= {name: f"S9{at:02}q" for at, name in enumerate(SECRET_NAMES)}
    versions = {text: text for _, text in TEXTS}
    lines = []
    for name in ("one", "two"):
        lines.append(
            encode_raw(RunInfo(id=name, name=name, params=params, directions=dict.fromkeys(versions, "min")), versions)
        )
        for step in (1, 2):
            values = {f"{text}/{text}": float(step) for _, text in TEXTS}
            lines.append(
                encode(Snapshot(step, metrics=values, time=1e9 + step, logs={text: text for _, text in TEXTS}))
            )
            lines += [encode(Snapshot(step, text, {"a/loss": 1.0}, time=1e9 + step)) for _, text in TEXTS]
        lines.append(encode_end(name))
    path = directory / "metrics.jsonl"
    path.write_bytes(b"".join(lines))
    fingerprint = fingerprint_of(lines[0])
    everything = " ".join([text for _, text in TEXTS] + [*SECRET_TEXTS.values()])
    for name, text in [
        ("mlflow", everything),
        *((f"s\x1b[2J{at}", text) for at, text in enumerate(SECRET_TEXTS.values())),
    ]:
        cursor = Cursor(fingerprint, 10, state="down", error=text, delivered=1)
        cursor.reject(1, "train", text)
        cursor.save(cursor_path(path, name))
    return path


def write_names(directory: Path) -> Path:
    """Write a journal with one run per text, which is its name, its id and its host; then some with several texts.

    The last one has all secrets in its name and in an alert.
    """
    directory.mkdir()
    texts = [text for _, text in TEXTS]
    lines = []
    for name in [*texts, *(" ".join(texts[at : at + 10]) for at in range(0, len(texts), 10))]:
        lines += [encode_raw(RunInfo(id=name, name=name), {}, host=name), *map(encode, losses(1))]
    secrets = " ".join(SECRET_TEXTS.values())
    alert = Note("alert", 1, secrets, {"rule": "above", "key": "a/loss", "phase": "train", "is_over": False})
    lines += [encode_raw(RunInfo(id="s", name=secrets), {}), *map(encode, losses(1)), encode(alert)]
    (directory / "metrics.jsonl").write_bytes(b"".join(lines))
    return directory / "metrics.jsonl"


def encode_raw(run: RunInfo, versions: dict[str, str], host: str = "elsewhere") -> bytes:
    """Encode the beginning of a run as an attacker does: without masking anything."""
    fields = ("id", "name", "params", "step", "attached", "continued", "directions")
    record = {"record": "run", **{name: thaw(getattr(run, name)) for name in fields}, "logged": [], "output_dir": None}
    record |= {"time": 1e9, "versions": versions, "process": [host, 1, ""]}
    return json.dumps(record).encode() + b"\n"


def thaw(value: Any) -> Any:
    return dict(value) if hasattr(value, "items") else value


def encode_end(run_id: str) -> bytes:
    return json.dumps({"record": "end", "id": run_id, "status": "finished", "time": 1e9}).encode() + b"\n"


def run(*arguments: str, **environment: str) -> str:
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300", **environment})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in (0, 1), done.output[-2000:]
    return done.output


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> dict[str, str]:
    """What each command prints or writes for the hostile journal."""
    directory = tmp_path_factory.mktemp("hostile")
    path = write_hostile(directory / "run")
    one, two, page = f"{path}:one", f"{path}:two", directory / "page.html"
    found = {
        "watch": run("watch", str(path)), "watch --json": run("watch", str(path), "--json"),
        "watch on a terminal": COLOURS.sub("", run("watch", str(path), "--once", FORCE_COLOR="1")),
        "diff": run("diff", one, two), "diff --json": run("diff", one, two, "--json"),
        "diff on a terminal": COLOURS.sub("", run("diff", one, two, FORCE_COLOR="1")),
        "doctor": run("doctor", str(path)), "doctor --json": run("doctor", str(path), "--json"),
        "doctor --format github": run("doctor", str(path), "--format", "github"),
        "report --json": run("report", one, two, "--json"), "report": run("report", one, two, "-o", str(page)),
    }  # fmt: skip
    found["page"] = page.read_text()
    for name in ("report.md", "report.json"):
        run("report", one, two, "-o", str(directory / name))
        found[name] = (directory / name).read_text()
    names = write_names(directory / "names")
    lines = [shown_line(training, item) for each in (path, names) for training, item in Watch(each).update()]
    found["watch --follow"] = "\n".join(lines)
    found["names"] = run("report", *(f"{names}:{at + 1}" for at in GROUPED), "-o", str(page))
    found["doctor of names"] = run("doctor", str(names))
    found["doctor of names on GitHub"] = run("doctor", str(names), "--format", "github")
    found["page of names"] = page.read_text()
    warnings.filterwarnings("ignore", message="Glyph")  # the fonts of matplotlib lack some letters
    for name in ("plot.html", "plot.svg"):
        chart = make_chart(open_runs([one]), only="a/*")
        write_chart(chart, directory / name, **({"title": one} if name.endswith("html") else {}))
        found[name] = (directory / name).read_text()
    for name, each in (("table.csv", path), ("table of names.csv", names)):
        run("export", str(each), "-o", str(directory / name))
        found[name] = (directory / name).read_bytes().decode()
    console = [line for _, text in TEXTS for line in TaskLines().make(text, {"mlm/loss": 1.0, "nsp/loss": 2.0})]
    found["console of a training"] = "\n".join(console)
    for name in PAGES:
        found[f"{name}, whole"] = found[name]
        found[name] = re.sub(r"<(script|style)>.*?</\1>", "", found[name], flags=re.DOTALL)  # what we wrote ourselves
    return found


def shown_line(training: Any, item: Any) -> str:
    from mtask_sinks._util.shown import shown

    return shown(item_line(training, item))


TO_PEOPLE = [
    *("watch", "watch on a terminal", "watch --follow", "watch --json", "diff", "diff on a terminal", "diff --json"),
    *(
        "doctor --format github",
        "doctor",
        "doctor --json",
        "report",
        "names",
        "report --json",
        "console of a training",
    ),
    *("report.md", "report.json", "doctor of names", "doctor of names on GitHub"),
]
PAGES = ["page", "page of names", "plot.html", "plot.svg"]


@pytest.mark.parametrize("text", [*TERMINAL.values()], ids=[*TERMINAL])
def test_no_text_commands_a_terminal(text: str, outputs) -> None:
    assert [output for output in (*TO_PEOPLE, *PAGES) if text in outputs[output]] == []


@pytest.mark.parametrize("output", TO_PEOPLE)
def test_no_control_character_is_printed_at_all(output: str, outputs) -> None:
    found = HIDDEN.search(outputs[output])
    assert found is None, ascii(outputs[output][max(found.start() - 40, 0) : found.end() + 40])


@pytest.mark.parametrize("text", [*TERMINAL.values()], ids=[*TERMINAL])
def test_what_it_was_is_shown_as_escapes(text: str, outputs) -> None:
    escaped = "".join(repr(each)[1:-1] if HIDDEN.match(each) or each == "\n" else each for each in text)
    every = ("watch --follow", "console of a training", "names")
    assert [output for output in every if escaped not in outputs[output]] == []


class Tags(HTMLParser):
    """Collects the tags of a page, and all attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


@pytest.mark.parametrize("output", ["page", "page of names", "plot.html"])
def test_a_page_has_only_its_own_tags(output: str, outputs) -> None:
    tags = Tags()
    tags.feed(outputs[f"{output}, whole"])
    assert tags.tags.count("script") == 3
    assert not {"img", "iframe", "base", "object", "embed", "b", "sub"}.intersection(tags.tags)
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert not [
        value for name, value in tags.attributes if name in ("href", "src") and value[:1] != "#" and value != "data:,"
    ]
    assert tags.tags.count("form") <= 1


@pytest.mark.parametrize("text", [*MARKUP.values()], ids=[*MARKUP])
def test_no_name_is_code_in_a_page(text: str, outputs) -> None:
    found = text if re.search(r"[<>]", text) else "1337"  # what the braces would give
    assert [output for output in PAGES if found in outputs[output]] == []


@pytest.mark.parametrize("name", MARKS)
def test_no_secret_leaves(name: str, outputs) -> None:
    assert [output for output in (*TO_PEOPLE, *PAGES) if MARKS[name] in outputs[output]] == []


@pytest.mark.parametrize("at", range(len(SECRET_NAMES)), ids=SECRET_NAMES)
def test_no_parameter_with_the_name_of_a_secret_leaves(at: int, outputs) -> None:
    assert [output for output in (*TO_PEOPLE, *PAGES) if f"S9{at:02}q" in outputs[output]] == []


def test_a_spreadsheet_runs_no_cell_and_numbers_stay_numbers(outputs) -> None:
    head, *rows = csv.reader(io.StringIO(outputs["table.csv"] + outputs["table of names.csv"], newline=""))
    number = {"step", "epoch", "time", "value", "count"}
    for row in (row for row in rows if row != head):
        for name, cell in zip(head, row, strict=True):
            if name in number:
                assert not cell or float(cell) is not None
            else:
                assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝")), cell
    assert {row[0] for row in rows} >= {"'=cmd|'/C calc'!A1", "'-1+1", "'\\t=1+1", "one"}
    assert not HIDDEN.search(outputs["table.csv"])


HEAD = {"record": "run", "id": "1", "name": "r", "params": {}, "time": 1e9, "versions": {}, "process": ["h", 1, ""]}
POINT = {"record": "snapshot", "step": 1, "phase": "train", "metrics": {"a/x": 1.0}, "epoch": None, "time": 1e9,
         "counts": {}, "nonfinite": {}, "logs": {}}  # fmt: skip
VALUES: dict[str, Any] = {
    "text": "x", "list": [1], "object": {"a": {"b": 1}}, "none": None, "true": True, "huge": 10**30,
    "negative": -(10**30), "fraction": 1.5, "NaN": "NaN", "empty": "", "deep": None, "long": "x" * 100_000,
}  # fmt: skip
DEEP = b"[" * 100_000 + b"]" * 100_000
FIELDS = [*((HEAD, name) for name in HEAD if name != "record"), *((POINT, name) for name in POINT if name != "record")]


def wrong_line(record: dict[str, Any], field: str, kind: str) -> bytes:
    line = json.dumps({**record, field: VALUES[kind]}).encode()
    key = f'"{field}": '.encode()
    return line.replace(key + b"null", key + DEEP) if kind == "deep" else line


LINES = {
    f"{record['record']}.{field} is {kind}": wrong_line(record, field, kind)
    for record, field in FIELDS
    for kind in VALUES
} | {
    "no JSON": b"{", "brackets": DEEP, "null": b"null", "number": b"1e999", "digits": b"1" * 10_000,
    "bytes": b"\xff\xfe\x00", "zeros": b"\x00" * 10_000,
    "half a pair": b'{"record": "snapshot", "phase": "\\ud800"}', "twice": b'{"record": "run"} {}',
    "unknown": b'{"record": "exec", "command": "rm"}', "infinite": b'{"record": "snapshot", "step": Infinity}',
    "same key": b'{"record": "run", "record": "end"}', "no kind": b'{"step": 1}',
    "kind is a list": b'{"record": ["run"]}', "blank": b"   ",
    "long line": b'{"record": "' + b"x" * 1_000_000 + b'"}', "bool step": b'{"record":"snapshot","step":true}',
}  # fmt: skip


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_no_line_stops_a_reader(line: bytes, tmp_path) -> None:
    good = json.dumps(HEAD).encode(), json.dumps({**POINT, "step": 2}).encode(), encode_end("1").strip()
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([good[0], line, *good[1:], b""]))
    read_journal(tmp_path)
    watch = Watch(tmp_path)
    lines = [shown_line(training, item) for training, item in watch.update()]
    frame = io.StringIO()
    Console(file=frame, width=100).print(make_frame(watch.progress(), Console(file=frame, width=100)))
    assert not HIDDEN.search(frame.getvalue() + "".join(lines))
    rows = list(_measurements(tmp_path))
    assert rows[-1].step == 2


def _measurements(path: Path) -> Iterator[Any]:
    from mtask_sinks.analysis.export import measurements

    return measurements(path)


ENVIRONMENTS = [
    {"COLUMNS": "0"}, {"COLUMNS": "-5"}, {"COLUMNS": "wide"}, {"COLUMNS": "1"}, {"COLUMNS": "1000000"},
    {"LINES": "0"}, {"TERM": "dumb"}, {"TERM": "\x1b[2J"}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"},
    {"TZ": "\x1b[2J"}, {"LANG": "C"}, {"XDG_STATE_HOME": "relative"}, {"XDG_STATE_HOME": "/dev/null"},
    {"XDG_STATE_HOME": "/proc/1/x"}, {"HOME": ""}, {"TENSORBOARD_LOGGING_DIR": "\x1b[2J"},
    {"MLFLOW_TRACKING_URI": "http://me:pw@\x1b[2J"}, {"WANDB_API_KEY": "\x1b[2J" * 9}, {"PASSWORD": "\\(?:["},
    {"SECRET": "loss" * 2}, {"API_TOKEN": "x" * 100_000},
]  # fmt: skip


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda each: "=".join(map(ascii, *each.items()))[:30])
def test_no_environment_stops_a_command(environment: dict[str, str], tmp_path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(
        encode_end("0") + json.dumps(HEAD).encode() + b"\n" + b"".join(map(encode, losses(1, 2))) + encode_end("1")
    )
    path = str(tmp_path)
    for arguments in (["watch", path, "--once"], ["diff", path, path], ["report", path, "--json"]):
        output = run(*arguments, **environment)
        assert not HIDDEN.search(COLOURS.sub("", output))
        assert "pw@" not in output
