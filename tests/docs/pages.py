"""The pages of the documentation, their fenced blocks, and what HTML comments say of these to the tests.

A comment stands before its block, one directive each, invisible on the site:

    <!-- docs: skip REASON -->      these commands cannot run here; only their options are checked
    <!-- docs: prints TEXT -->      their output contains this (may be repeated)
    <!-- docs: fails -->            the last one is to fail
    <!-- docs: before COMMAND -->   what the page takes for granted; runs first (may be repeated)
    <!-- docs: pc NAME -->          on another PC: another folder, home and runtime folder, until said otherwise
"""
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("swarm-node", "swarm-ask", "swarm-gateway", "swarm-convert", "swarm-store", "swarm-eval", "swarm-bench")
DIRECTIVES = ("skip", "prints", "fails", "before", "pc")


class Wrong(Exception):
    """A sentence about a page, with its place."""


@dataclass
class Block:
    page: str
    line: int  # of the fence
    lang: str
    text: str
    said: list = field(default_factory=list)  # (directive, argument), in order

    def args(self, directive):
        return [a for d, a in self.said if d == directive]

    @property
    def skip(self):
        return (self.args("skip") or [None])[0]

    @property
    def place(self):
        return f"{self.page}:{self.line}"


def names(root):
    """Every page that holds commands: README.md, and docs/*.md but those that are made from others."""
    return ["README.md"] + sorted(f"docs/{p.name}" for p in (root / "docs").glob("*.md"))


def blocks(root, page):
    """The fenced blocks of a page, each with the directives between it and the block before."""
    out, said, block = [], [], None
    for number, line in enumerate((root / page).read_text().splitlines(), 1):
        fence = re.fullmatch(r"( *)(```+)(\w*).*", line)
        if block:
            if fence and not fence[3] and len(fence[2]) >= len(block[1]):
                out.append(Block(page, block[0], block[2], "\n".join(block[3]) + "\n", said))
                said, block = [], None
            else:
                block[3].append(line[block[4]:])
        elif fence:
            block = (number, fence[2], fence[3], [], len(fence[1]))
        else:
            for found in re.finditer(r"<!-- docs: (\w+) ?(.*?) ?-->", line):
                if found[1] not in DIRECTIVES:
                    raise Wrong(f"{page}:{number}: no directive '{found[1]}' ({', '.join(DIRECTIVES)})")
                if found[1] in ("skip", "prints", "before", "pc") and not found[2]:
                    raise Wrong(f"{page}:{number}: '{found[1]}' of what?")
                said.append((found[1], found[2]))
    if block:
        raise Wrong(f"{page}:{block[0]}: this block does not end")
    if said:
        raise Wrong(f"{page}: a directive without a block behind it")
    return out


def words(text, place):
    """Lists of the words of each simple command in a shell text."""
    commands, now, whole = [], [], ""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        whole += line + "\n"
        lexer = shlex.shlex(whole, posix=True, punctuation_chars=True)
        lexer.commenters = "#"
        lexer.whitespace_split = True
        try:
            tokens = list(lexer)
        except ValueError:
            continue  # a quoted text goes on in the next line
        whole = ""
        for token in tokens + [";"]:
            if token and set(token) <= set(";&|()"):
                if now:
                    commands.append(now)
                now = []
            else:
                now.append(token)
    if whole:
        raise Wrong(f"{place}: the shell would not read '{whole.strip()}'")
    return commands


def program_of(command):
    """(program, its words) of a command that is one of ours, else None; paths, sudo and VAR=x before it are left away."""
    while command and (re.match(r"\w+=", command[0]) or command[0] == "sudo"):
        command = command[1:]
    if not command or command[0].startswith("#"):
        return None
    name = command[0].removeprefix("build/bin/").removeprefix("./")
    return (name, command[1:]) if name in PROGRAMS or re.match(r"scripts/\w+\.(sh|py)$", name) else None


def source(root):
    """The folder of the sources when this stands in tests/docs."""
    return Path(root).resolve()
