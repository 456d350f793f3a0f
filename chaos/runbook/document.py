"""A runbook in Markdown as lines of text and shell commands, each with its line number."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from chaos.errors import BadInput

SHELLS = ("bash", "sh", "shell", "zsh", "console", "terminal", "shell-session")
PROMPT = re.compile(r"^\s*\$\s+")
JOINERS = (";", "&&", "||", "&")


@dataclass(frozen=True)
class Stage:
    """One program of a pipeline: its words, without variables assigned in front and without redirections."""

    words: tuple[str, ...]
    redirections: tuple[str, ...] = ()

    @property
    def program(self) -> str:
        """Its name, without directories."""
        return self.words[0].rpartition("/")[2] if self.words else ""

    def has(self, *options: str) -> bool:
        """Tell whether one of *options* is given: `--flag`, `--flag=value`, or a letter of `-abc`."""
        for word in self.words[1:]:
            for option in options:
                short = re.fullmatch(r"-([A-Za-z])", option)
                if word == option or word.startswith(f"{option}="):
                    return True
                if short and re.fullmatch(r"-[A-Za-z]+", word) and short[1] in word:
                    return True
        return False

    def plain(self) -> list[str]:
        """Its words that are no options."""
        return [word for word in self.words if not word.startswith("-")]


@dataclass(frozen=True)
class Command:
    """A command line.

    Attributes:
        line: Where it begins, from 1.
        stages: The programs of its pipeline.
        ignored: What follows makes its failure invisible, such as `|| true`.
        pipefail: `set -o pipefail` is in force.
        problem: Why it cannot be read; it has no stages then.
    """

    line: int
    text: str
    stages: tuple[Stage, ...] = ()
    ignored: str | None = None
    pipefail: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class Text:
    """A line of prose, a heading or a list item; `item` tells whether it is one of a list."""

    line: int
    text: str
    item: bool = False


@dataclass(frozen=True)
class Runbook:
    """A runbook that was read.

    Attributes:
        code: Lines of code blocks that are no commands (configuration, answers).
    """

    name: str
    commands: tuple[Command, ...]
    texts: tuple[Text, ...]
    code: tuple[Text, ...]


def read_runbook(path: Path) -> Runbook:
    """Read a Markdown file. Raises BadInput."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as a runbook ({error}).") from error
    return parse_runbook(text, path.name)


def parse_runbook(text: str, name: str = "runbook") -> Runbook:
    """Read Markdown: fenced blocks of a shell, and blocks without a language that show a prompt, are commands."""
    commands: list[Command] = []
    texts: list[Text] = []
    code: list[Text] = []
    items = 0
    for token in MarkdownIt().parse(text):
        items += {"list_item_open": 1, "list_item_close": -1}.get(token.type, 0)
        if token.type in ("fence", "code_block"):
            lines = _block(token)
            if _is_shell(token, lines):
                commands += _commands(lines)
            else:
                code += [Text(number, line) for number, line in lines]
        elif token.type == "inline" and token.map:
            texts += [Text(token.map[0] + 1 + n, line, items > 0) for n, line in enumerate(token.content.splitlines())]
    return Runbook(name, tuple(commands), tuple(texts), tuple(code))


def _block(token: Token) -> list[tuple[int, str]]:
    first = (token.map[0] if token.map else 0) + (2 if token.type == "fence" else 1)
    return [(first + n, line) for n, line in enumerate(token.content.splitlines())]


def _is_shell(token: Token, lines: list[tuple[int, str]]) -> bool:
    language = (token.info.split() or [""])[0].lower()
    return language in SHELLS or (not language and any(PROMPT.match(line) for _, line in lines))


def _commands(lines: list[tuple[int, str]]) -> Iterator[Command]:
    prompted = any(PROMPT.match(line) for _, line in lines)
    pipefail, kept = False, ""
    begin = 0
    for number, line in lines:
        if prompted and not kept and not PROMPT.match(line):
            continue  # what the command before it answered
        begin = begin if kept else number
        joined = f"{kept}{PROMPT.sub('', line)}"
        if joined.endswith("\\") and number != lines[-1][0]:
            kept = joined[:-1]
            continue
        try:
            parts = _split(joined)
        except ValueError as error:
            if number != lines[-1][0]:
                kept = f"{joined}\n"  # a quoted string goes on
                continue
            yield Command(begin, joined.strip(), problem=str(error))
            return
        kept = ""
        pipefail = pipefail or "pipefail" in joined
        for part, ignored in parts:
            yield Command(begin, joined.strip(), tuple(part), ignored, pipefail)


def _split(text: str) -> list[tuple[list[Stage], str | None]]:
    """Cut a line into pipelines, each with what hides its failure; raises ValueError."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    pipelines: list[tuple[list[Stage], str | None]] = []
    words: list[str] = []
    stages: list[Stage] = []

    def end() -> None:
        if words:
            stages.append(_stage(words))
            words.clear()

    for word in [*lexer, ";"]:
        if word in ("|", "|&"):
            end()
        elif word in JOINERS:
            end()
            if pipelines and pipelines[-1][1] == "||" and stages:
                swallow = stages[0].program in ("true", ":") and f"|| {stages[0].program}"
                pipelines[-1] = (pipelines[-1][0], swallow or None)
                stages = [] if swallow else stages
            if stages:
                pipelines.append((stages, "||" if word == "||" else None))
            stages = []
        else:
            words.append(word)
    return [(each, None if ignored == "||" else ignored) for each, ignored in pipelines]


def _stage(words: list[str]) -> Stage:
    kept: list[str] = []
    redirections: list[str] = []
    target = False
    for position, word in enumerate(words):
        if target:
            redirections[-1] += word
            target = False
        elif set(word) & set("<>") and not set(word) - set("<>&|()0123456789"):
            number = kept.pop() if kept and kept[-1] in ("1", "2") and position else ""
            redirections.append(number + word)
            target = True
        else:
            kept.append(word)
    while kept and re.fullmatch(r"[A-Za-z_]\w*=.*", kept[0], re.DOTALL):
        kept.pop(0)
    return Stage(tuple(kept), tuple(redirections))
