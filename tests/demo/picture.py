#!/usr/bin/env python3
"""Draws a report as the README shows it: make picture, or

    sh tests/demo/run.sh BINARY | python3 tests/demo/picture.py docs/images/report

Reads what `make demo` prints on standard input and writes PREFIX-light.svg and
PREFIX-dark.svg. The pictures hold text, no paths: they are small, and every word can
be searched and copied. Registers, code bytes and notes are left out.
"""

import re
import sys
from xml.sax.saxutils import escape

FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
SIZE = 13
# Pixels of a column and of a line. Monospaced fonts are about 0.6 em wide, some a little more.
COLUMN = 8.1
LINE = 19
MARGIN = 18
LEFT_OUT = ("Code", "Operands")

# Colours of GitHub's two themes, so that the picture looks like a part of the page.
THEMES = {
    "light": {
        "back": "#f6f8fa", "frame": "#d0d7de", "plain": "#1f2328", "dim": "#59636e",
        "head": "#b35900", "cause": "#cf222e", "name": "#0550ae",
    },
    "dark": {
        "back": "#151b23", "frame": "#3d444d", "plain": "#e6edf3", "dim": "#9198a1",
        "head": "#f0b46f", "cause": "#ff8b82", "name": "#79c0ff",
    },
}  # fmt: skip


def chosen(output):
    """The lines of the picture: the report's summary and its stack trace."""
    lines = output.splitlines()
    begin = next((i for i, line in enumerate(lines) if " in process " in line), None)
    if begin is None:
        sys.exit("picture: there is no report on standard input")
    summary = []
    for line in lines[begin:]:
        if not line:
            break
        if not line.startswith(tuple(f"  {label}:" for label in LEFT_OUT)):
            summary.append(line)
    frames = next((i for i, line in enumerate(lines) if line.startswith("  Stack Trace")), None)
    if frames is None:
        sys.exit("picture: the report has no stack trace")
    stack = []
    for line in lines[frames:]:
        if not line:
            break
        stack.append(line)
    return [*summary, "", *stack]


def pieces(line):
    """A line as (style, text) pairs."""
    if line.startswith("["):
        return [("head", line)]
    if frame := re.fullmatch(r"( +#\d+ +0x[0-9a-f]+ )([^ ]+)( .*)?", line):
        return [("dim", frame[1]), ("name", frame[2]), ("dim", frame[3] or "")]
    if label := re.fullmatch(r"(  [A-Z][A-Za-z ]+:)( +)(.*)", line):
        return [("dim", label[1] + label[2]), ("cause" if "Cause" in label[1] else "plain", label[3])]
    return [("dim", line)]


def picture(lines, theme):
    width = round(max(map(len, lines)) * COLUMN + 2 * MARGIN)
    height = len(lines) * LINE + 2 * MARGIN
    style = "".join(f".{name}{{fill:{theme[name]}}}" for name in ("plain", "dim", "head", "cause", "name"))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        "<title>A report of segfault_analyzer</title>",
        f"<style>text{{white-space:pre}}.head,.cause{{font-weight:600}}{style}</style>",
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6" '
        f'fill="{theme["back"]}" stroke="{theme["frame"]}"/>',
        f'<g font-family="{FONT}" font-size="{SIZE}">',
    ]
    for number, line in enumerate(lines):
        if line:
            spans = "".join(f'<tspan class="{style}">{escape(text)}</tspan>' for style, text in pieces(line) if text)
            y = MARGIN + number * LINE + SIZE
            out.append(f'<text x="{MARGIN}" y="{y}" xml:space="preserve">{spans}</text>')
    return "\n".join([*out, "</g>", "</svg>", ""])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    lines = chosen(sys.stdin.read())
    for name, theme in THEMES.items():
        with open(f"{sys.argv[1]}-{name}.svg", "w", encoding="utf-8") as file:
            file.write(picture(lines, theme))


if __name__ == "__main__":
    main()
