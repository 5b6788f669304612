#!/usr/bin/env python3
"""Makes the man page from the manual: make man, or

    python3 docs/man.py docs/manual.md >docs/segfault_analyzer.1

Reads the part of Markdown that the manual uses: headings, paragraphs, lines of code,
tables, `code`, **bold**, *emphasis*, [links]. Headings of level 2 become sections, those of
level 3 subsections. In a table the first column is the term, the others explain it.
"""

import re
import sys

# A table with this column says it in words.
DEFAULT = "Default"
NO_DEFAULT = ("off", "")


def plain(text):
    """Text with nothing in it that troff would take for its own."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")


def inline(text):
    """A line of Markdown as a line of troff."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    out = []
    for piece in re.split(r"(`[^`]+`|\*\*[^*]+\*\*|\*[^*\s][^*]*\*)", text):
        if piece.startswith("`"):
            out.append(f"\\fB{plain(piece[1:-1])}\\fP")
        elif piece.startswith("**"):
            out.append(f"\\fB{plain(piece[2:-2])}\\fP")
        elif piece.startswith("*") and len(piece) > 2:
            out.append(f"\\fI{plain(piece[1:-1])}\\fP")
        else:
            out.append(plain(piece))
    return "".join(out)


def guarded(line):
    """A line that begins with a dot is text, too."""
    return "\\&" + line if line.startswith((".", "'")) else line


def cells(row):
    """The cells of a table's row; \\| is a bar."""
    parts = re.split(r"(?<!\\)\|", row.strip())[1:-1]
    return [part.strip().replace("\\|", "|") for part in parts]


def table(rows):
    heads, body = cells(rows[0]), [cells(row) for row in rows[2:]]
    for row in body:
        yield ".TP"
        yield guarded(inline(row[0]))
        words = []
        for head, cell in zip(heads[1:], row[1:]):
            if head == DEFAULT:
                cell = "" if cell in NO_DEFAULT else f"Default: {cell}."
            words.append(cell)
        yield guarded(inline(" ".join(word for word in words if word)))


def code(lines):
    yield from [".PP", ".in +4n", ".nf"]
    yield from (guarded(plain(line)) for line in lines)
    yield from [".fi", ".in"]


def blocks(lines):
    """The manual's lines, in blocks of one kind."""
    block, fenced = [], False
    for line in lines:
        if line.startswith("```"):
            if fenced:
                yield "code", block
            elif block:
                yield "text", block
            block, fenced = [], not fenced
        elif fenced:
            block.append(line)
        elif not line.strip() or line.startswith("#"):
            if block:
                yield "text", block
            block = []
            if line.strip():
                yield "heading", [line]
        else:
            block.append(line)
    if block:
        yield "text", block


def page(manual):
    lines = manual.splitlines()
    name, about = lines[0].removeprefix("# ").split(": ", 1)
    yield '.\\" Made from docs/manual.md by docs/man.py: change the manual, then run make man.'
    yield f'.TH {name.upper()} 1 "" {name} "User Commands"'
    yield from [".SH NAME", f"{plain(name)} \\- {plain(about)}"]
    # What stands before the first section is about the Markdown page.
    start = next(i for i, line in enumerate(lines) if line.startswith("## "))
    section = ""
    for kind, block in blocks(lines[start:]):
        if kind == "heading" and block[0].startswith("## "):
            section = block[0].removeprefix("## ")
            yield f".SH {plain(section.upper())}"
        elif kind == "heading":
            yield f".SS {plain(block[0].lstrip('# '))}"
        elif kind == "code":
            yield from code(block)
        elif block[0].startswith("|"):
            yield from table(block)
        else:
            yield ".PP"
            yield from (guarded(inline(line)) for line in joined(block))


def joined(block):
    """A paragraph's lines; marks may begin on one and end on the next."""
    text = " ".join(block)
    return re.split(r"(?<=[.:;?!]) +(?=[A-Z`*])", text)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        sys.stdout.write("\n".join([*page(file.read()), ""]))


if __name__ == "__main__":
    main()
