"""Names in a picture whose characters the usual font lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont
from helpers.journals import write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.charts.fonts import fonts_for

# Letters of the Toto script, which hardly any computer has a font for.
TASK = "\U0001e290\U0001e291\U0001e292\U0001e293"


def install_font(data_home: Path, characters: str, style: str = "Regular") -> None:
    """Put a font of one family into a user's directory of fonts. Each of its characters is a black square."""
    pen = TTGlyphPen(None)
    for number, corner in enumerate([(0, 0), (0, 800), (800, 800), (800, 0)]):
        (pen.lineTo if number else pen.moveTo)(corner)
    pen.closePath()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap({ord(character): "square" for character in characters})
    font.setupGlyf({".notdef": pen.glyph(), "square": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Squares", "styleName": style})
    font.setupOS2(usWeightClass=700 if style == "Bold" else 400)
    font.setupPost()
    (data_home / "fonts").mkdir(parents=True, exist_ok=True)
    font.save(data_home / "fonts" / f"squares-{style}.ttf")


def plotted(directory: Path, picture: str) -> tuple[bytes, str]:
    """Return the picture that ``plot`` draws of a training, and its messages."""
    run = subprocess.run(
        [sys.executable, "-m", "mtask_sinks", "plot", str(directory), "-o", str(directory / picture)],
        env={**os.environ, "XDG_DATA_HOME": str(directory), "MPLCONFIGDIR": str(directory / "matplotlib")},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return (directory / picture).read_bytes(), run.stderr


def test_a_character_comes_from_any_font_that_has_it_or_one_message_names_it(tmp_path) -> None:
    snapshots = [Snapshot(step, metrics={f"{TASK}/loss": 1.0 / step, "b/loss": step}) for step in (1, 2, 3)]
    write(tmp_path, (RunInfo(id="1", name="one"), snapshots, "finished"))
    without, told = plotted(tmp_path, "without.png")
    assert [line for line in told.splitlines() if "Glyph" in line] == []
    lines = [line for line in told.splitlines() if "has the characters" in line]
    assert len(lines) == 1
    assert " ".join(TASK) in lines[0]
    assert "Install a font" in lines[0]
    install_font(tmp_path, TASK[:3])
    _, told = plotted(tmp_path, "some.png")
    assert f"has the characters {TASK[3]}, so" in told
    install_font(tmp_path, TASK)
    found, told = plotted(tmp_path, "found.png")
    assert told == ""
    assert found != without


def test_a_font_needs_no_characters_that_cannot_be_seen() -> None:
    families, missing = fonts_for(["Loss of a\nand\tb\u200b"])
    assert (len(families), missing) == (1, "")


def test_an_svg_leaves_the_choice_to_the_browser(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="one"), [Snapshot(1, metrics={f"{TASK}/loss": 1.0})], "finished"))
    drawn, told = plotted(tmp_path, "c.svg")
    assert TASK.encode() in drawn
    assert "has the characters" not in told
    assert "Glyph" not in told


def test_a_family_in_the_settings_that_no_computer_has_does_not_turn_the_other_letters_into_boxes(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="one"), [Snapshot(1, metrics={f"{TASK}/loss": 1.0})], "finished"))
    install_font(tmp_path, TASK)
    (tmp_path / "matplotlib").mkdir()
    pictures = []
    for family in ("DejaVu Sans", "No Such Family"):
        (tmp_path / "matplotlib" / "matplotlibrc").write_text(f"font.family: {family}\n")
        pictures.append(plotted(tmp_path, "c.png")[0])
    assert pictures[0] == pictures[1]


def test_a_character_that_only_the_bold_font_of_a_family_has_is_named(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="one"), [Snapshot(1, metrics={f"{TASK}/loss": 1.0})], "finished"))
    install_font(tmp_path, TASK[:2])
    install_font(tmp_path, TASK, "Bold")
    _, told = plotted(tmp_path, "c.png")
    assert f"has the characters {TASK[2]} {TASK[3]}, so" in told


def test_a_font_with_damaged_names_does_not_prevent_a_picture(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="one"), [Snapshot(1, metrics={f"{TASK}/loss": 1.0})], "finished"))
    install_font(tmp_path, TASK)
    path = tmp_path / "fonts" / "squares-Regular.ttf"
    font = TTFont(path)
    font["name"].names = [record for record in font["name"].names if record.platformID == 3]
    for record in font["name"].names:
        record.string = b"\x00S\x00"  # half of the second letter is missing
    font.save(path)
    _, told = plotted(tmp_path, "c.png")
    assert f"has the characters {' '.join(TASK)}, so" in told
