from __future__ import annotations

import json
import subprocess

import pytest

from mtask_sinks._util.escaping import printable, printable_json, shell_word

CONTROLS = [
    *map(chr, range(0x20)), "\x7f", *map(chr, range(0x80, 0xA0)), *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)), "\u200e", "\u200f", "\u061c", "\u2028", "\u2029", "\ufeff", "\u200b",
    "\U000e0041", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("character", CONTROLS, ids=ascii)
def test_a_control_character_is_shown_as_an_escape_of_python(character: str) -> None:
    shown = printable(f"a{character}b")
    assert shown == "a" + repr(character)[1:-1] + "b"
    assert shown.isascii()
    assert printable(shown) == shown


@pytest.mark.parametrize("text", ["loss", "naïve", "损失", "مرحبا", "می‌خواهم", "👩‍💻", "a b", "C:\\runs", "ａｂ", ""])
def test_text_in_any_script_stays_as_it_is(text: str) -> None:
    assert printable(text) == text
    assert printable_json(json.dumps(text, ensure_ascii=False)) == json.dumps(text, ensure_ascii=False)


def test_newlines_stay_where_a_text_has_lines() -> None:
    assert printable("a\nb\tc\r", keep_newlines=True) == "a\nb\\tc\\r"


@pytest.mark.parametrize("character", [each for each in CONTROLS if ord(each) > 0x7E], ids=ascii)
def test_json_keeps_its_meaning(character: str) -> None:
    text = json.dumps({f"a{character}": [f"{character}b", 1]}, ensure_ascii=False)
    assert printable_json(text).isascii()
    assert json.loads(printable_json(text)) == json.loads(text)


@pytest.mark.parametrize(
    "path", ["out", "out/run 1", "it's", "a\x1b[2Jb", "a\nb", "é\x9bß", "$(id)\n", "`id`\x07", "\\x41\t"]
)
def test_a_shell_reads_the_word_that_was_meant(path: str) -> None:
    word = shell_word(path)
    assert printable(word) == word
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert done.stdout.decode() == path
