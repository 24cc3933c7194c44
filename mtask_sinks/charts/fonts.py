"""Chooses the fonts of a picture. By default matplotlib draws with one font, and a box for what this font lacks."""

from __future__ import annotations

from collections.abc import Iterable

# Fonts that have a box for every character.
_BOXES = "lastresort"
# What matplotlib raises for a font that is damaged, or of a kind that FreeType does not know.
_UNUSABLE = (OSError, RuntimeError, ValueError)


def fonts_for(texts: Iterable[str]) -> tuple[list[str], str]:
    """Return the names of the fonts that a picture with these texts needs, and the characters that no font has.

    The fonts of matplotlib's settings come first. If they lack a character, fonts of this computer follow, those first
    that have the most of what is still missing. Matplotlib takes each character from the first font that has it.
    """
    from matplotlib.font_manager import FontProperties, fontManager

    families = list(FontProperties().get_family())
    if not any(map(_font_of, families)):  # then matplotlib draws with its own font, but only if no other one follows
        families.append(fontManager.defaultFamily["ttf"])
    missing = {character for text in texts for character in text if character.isprintable()}
    for family in families:
        missing -= _characters(_font_of(family), missing)
    found = {path: _characters(path, missing) for path in _installed()} if missing else {}
    while missing and found:
        best = max(found, key=lambda path: len(missing & found[path]))
        if not missing & found.pop(best):
            break
        further = _family(best)
        # Matplotlib draws with one font of a family. That may be another one than the best.
        if further is not None and (drawn := _characters(_font_of(further), missing)):
            families.append(further)
            missing -= drawn
    return families, "".join(sorted(missing))


def _installed() -> list[str]:
    """Return the paths of all fonts. Matplotlib remembers what was installed when it first ran; this finds new ones."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    paths = dict.fromkeys(entry.fname for entry in fontManager.ttflist)
    paths |= dict.fromkeys(findSystemFonts())
    return list(paths)


def _font_of(family: str) -> str | None:
    """Return the path of the font that matplotlib draws with for a family; ``None`` if it knows no such family."""
    from matplotlib.font_manager import FontProperties, findfont

    try:
        return findfont(FontProperties(family=[family]), fallback_to_default=False)
    except ValueError:
        return None


def _characters(path: str | None, wanted: Iterable[str]) -> set[str]:
    """Return the wanted characters that a font has; none if matplotlib cannot draw with the font."""
    from matplotlib.font_manager import get_font

    if path is None:
        return set()
    try:
        font = get_font(path)
        if not font.scalable or _BOXES in font.family_name.replace(" ", "").lower():
            return set()
        return {character for character in wanted if font.get_char_index(ord(character))}
    except _UNUSABLE:
        return set()


def _family(path: str) -> str | None:
    """Return the family by which matplotlib finds a font; ``None`` if it cannot read the names in the font."""
    from matplotlib.font_manager import fontManager, get_font

    try:
        if all(entry.fname != path for entry in fontManager.ttflist):
            fontManager.addfont(path)
        return get_font(path).family_name
    except _UNUSABLE:
        return None
