"""The colours of both schemes can be read."""

import re

from tests.dashboard.site import ROOT


def test_words_stand_out_from_what_they_lie_on_in_both_schemes() -> None:
    """WCAG 2.2 AA: 4.5 for text, 3 for the edges of controls."""
    sheet = (ROOT / "assets" / "styles" / "tokens.css").read_text()
    schemes = [
        {
            name: pair[place]
            for name, *pair in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", sheet)
        }
        for place in (0, 1)
    ]
    text = ("ink", "ink-soft", "ink-faint", "accent-ink", "good", "warn", "bad")
    pairs = [(word, ground, 4.5) for word in text for ground in ("canvas", "surface", "sunken", "hover")]
    pairs += [(word, f"{word}-soft", 4.5) for word in ("good", "warn", "bad")]
    pairs += [
        ("accent-ink", "accent-soft", 4.5),
        ("line-control", "surface", 3.0),
        ("line-control", "canvas", 3.0),
    ]
    for scheme in schemes:
        assert contrast("#ffffff", scheme["accent"]) >= 4.5
        assert contrast("#ffffff", scheme["bad-fill"]) >= 4.5
        weak = [
            (word, ground) for word, ground, least in pairs if contrast(scheme[word], scheme[ground]) < least
        ]
        assert weak == []


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
