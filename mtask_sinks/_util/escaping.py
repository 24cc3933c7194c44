"""Shows text as text: control characters become visible escapes, so that no name can command a terminal."""

from __future__ import annotations

import re
import shlex

# Not shown as they are: the control characters of ASCII and of Unicode (C1), which command terminals; separators of
# lines and paragraphs; marks, overrides and isolates that reorder a line; invisible characters, except the two joiners
# that some scripts need; halves of surrogate pairs, which no stream can encode. Source: Unicode 16, UAX 9 and UTS 55.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_HIDDEN_BUT_NEWLINE = re.compile(_HIDDEN.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f", 1))


def printable(text: str, *, keep_newlines: bool = False) -> str:
    r"""Return a text in which each control character is an escape, as in a Python string.

    >>> printable("loss\x1b[2J\nclear \u202etxt"), printable("naïve 损失 🙂")
    ('loss\\x1b[2J\\nclear \\u202etxt', 'naïve 损失 🙂')

    Args:
        text: any text: a name, a path, the message of an error.
        keep_newlines: keep line breaks, for texts that have lines of their own.
    """
    if text.isascii() and text.isprintable():
        return text
    return (_HIDDEN_BUT_NEWLINE if keep_newlines else _HIDDEN).sub(_escape, text)


def printable_json(text: str) -> str:
    r"""Return JSON that means the same, in which control characters are escapes of JSON.

    >>> printable_json('{"name": "a\x9bb"}')
    '{"name": "a\\u009bb"}'
    """
    return text if text.isascii() else _HIDDEN_BUT_NEWLINE.sub(_escape_in_json, text)


def shell_word(text: str) -> str:
    r"""Quote a word of a command for a shell (bash, zsh, ksh), without control characters.

    >>> shell_word("out/run 1"), shell_word("out/a\x1b[2J'b")
    ("'out/run 1'", "$'out/a\\x1b[2J\\'b'")
    """
    if printable(text) == text:
        return shlex.quote(text)
    inside = "".join(
        f"\\{character}"
        if character in "\\'"
        else character
        if printable(character) == character
        else _bytes(character)
        for character in text
    )
    return f"$'{inside}'"


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _escape_in_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
