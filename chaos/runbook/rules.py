"""The rules of `icequake runbook check`: each is a small function that yields what it finds in a runbook."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from chaos.runbook.document import Command, Runbook, Stage, Text
from chaos.runbook.findings import Finding, Kind, Report
from chaos.runbook.tools import Stores, is_known, tool_of, tools, unknown_command

ADMIN = {
    "buffer": "GET", "flush": "POST", "export": "GET", "reset": "POST", "replay": "POST", "config": "GET", "quarantine": "GET",
}  # fmt: skip
"""What an admin listener like the reference collector's answers (docs/drills.md)."""

Found = Iterator[tuple[int, str, str, str]]
"""Line, text, why, and what to write instead."""


@dataclass(frozen=True)
class Rule:
    """One thing that runbooks get wrong; `find` yields where."""

    name: str
    kind: Kind
    find: Callable[[Runbook], Found]


def check_runbook(runbook: Runbook) -> Report:
    """Apply every rule; findings come in the order of their lines."""
    report = Report(runbook.name, len(runbook.commands))
    for rule in RULES:
        report.findings += [Finding(rule.name, rule.kind, *found) for found in rule.find(runbook)]
    report.findings.sort(key=lambda one: (one.line, one.rule))
    for command in runbook.commands:
        if not all(is_known(stage) for stage in command.stages):
            report.unchecked[command.line] = command.text
    return report


# -- does not exist


def _unreadable(runbook: Runbook) -> Found:
    for command in runbook.commands:
        if command.problem is not None:
            yield command.line, command.text, f"the shell cannot read it: {command.problem}", "close the quotation"


def _unknown_command(runbook: Runbook) -> Found:
    for command, stage in _stages(runbook):
        if (unknown := unknown_command(stage)) is not None:
            name, known = unknown
            yield command.line, command.text, f"there is no `{name}`", f"use one of {', '.join(known)}"


def _no_such_host(runbook: Runbook) -> Found:
    for command, stage in _stages(runbook):
        for host in _hosts(stage):
            if re.fullmatch(r"[a-z0-9-]+\.workers\.dev", host):
                why = f"{host} lacks the account's sub-domain (<worker>.<account>.workers.dev), so nobody answers there"
                yield command.line, command.text, why, "use the route or custom domain that production has"


def _unknown_admin(runbook: Runbook) -> Found:
    for command, stage in _stages(runbook):
        for url in _urls(stage):
            asked = re.search(r"/admin/([a-z-]+)", url)
            if asked is None:
                continue
            method = _method(stage)
            if asked[1] not in ADMIN:
                known = ", ".join(f"{how} /admin/{what}" for what, how in ADMIN.items())
                yield command.line, command.text, f"the admin listener has no /admin/{asked[1]}", f"use one of {known}"
            elif method != ADMIN[asked[1]]:
                why = f"/admin/{asked[1]} is answered with 405 for {method}"
                yield command.line, command.text, why, f"use -X {ADMIN[asked[1]]}"


def _missing_input(runbook: Runbook) -> Found:
    made: set[str] = set()
    for command, stage in _stages(runbook):
        for path in _inputs(stage):
            if path.lstrip("./") not in made and "$" not in path and "<" not in path:
                why = f"nothing before it makes {path}, so it fails whatever it was to test"
                yield command.line, command.text, why, f"make it first: echo icequake > {path}"
        made |= {path.lstrip("./") for path in _outputs(stage)}


# -- succeeds without doing it


def _local_only(runbook: Runbook) -> Found:
    for command, stage in _stages(runbook):
        name, words = tool_of(stage)
        local = tools()[name].local if name in tools() else None
        if local is None or stage.has(*local.unless):
            continue
        if any(_begins(words, one) for one in local.commands):
            why = f"without {local.unless[0]} it works on a simulator on this machine, and succeeds without any credentials"
            yield command.line, command.text, why, f"add {local.unless[0]}"


def _elsewhere(runbook: Runbook) -> Found:
    for command, _, key, _ in _stored(runbook):
        if "/" not in key and "$" not in key:
            why = (
                f"it writes {key!r} to the bucket's root with the credentials of whoever types it; the collector writes below its "
                "own prefix with its own, and those may be denied all the same"
            )
            yield command.line, command.text, why, "icequake doctor tries each operation below the table's prefix"


# -- cannot see failure


def _http_error_ignored(runbook: Runbook) -> Found:
    for command, stage in _stages(runbook):
        if (
            tool_of(stage)[0] == "curl"
            and not stage.has("-f", "--fail", "--fail-with-body")
            and not _shows_status(stage)
        ):
            yield command.line, command.text, "curl ends with status 0 on 401, 404 and 503", "add --fail-with-body"


def _sampled(runbook: Runbook) -> Found:
    for command, stage in _stages(runbook):
        name, words = tool_of(stage)
        for sampled in tools()[name].sampled if name in tools() else ():
            if _begins(words, sampled):
                why = f"`{name} {sampled}` leaves lines out under load, and shows nothing of before it began: silence proves nothing"
                yield command.line, command.text, why, "read the metric, or logs that are kept"


def _last_stage_only(runbook: Runbook) -> Found:
    for command in runbook.commands:
        first = command.stages[0] if len(command.stages) > 1 else None
        if first is not None and not command.pipefail and tool_of(first)[0] in tools():
            why = f"the status of the line is that of `{command.stages[-1].program}`; a `{first.program}` that failed is not seen"
            yield command.line, command.text, why, "set -o pipefail before it"


def _swallowed(runbook: Runbook) -> Found:
    for command in runbook.commands:
        thrown = [
            one for stage in command.stages for one in stage.redirections if one in ("2>/dev/null", "&>/dev/null")
        ]
        hides = command.ignored or (thrown[0] if thrown else None)
        if hides is not None and any(tool_of(stage)[0] in {*tools(), "icequake"} for stage in command.stages):
            yield command.line, command.text, f"`{hides}` hides that it failed", f"leave `{hides}` out"


# -- does harm or comes too late


def _leftover(runbook: Runbook) -> Found:
    for command, stores, key, name in _stored(runbook):
        later = (stage for other, stage in _stages(runbook) if other.line >= command.line)
        if not any(_begins(tool_of(one)[1], stores.removed_by) and key in " ".join(one.words) for one in later):
            yield (
                command.line,
                command.text,
                f"it leaves {key!r} in the bucket",
                f"{name} {stores.removed_by} afterwards",
            )


def _clear_unverified(runbook: Runbook) -> Found:
    """In a list of steps, buffered events are exported and cleared, and nobody looks at the export in between."""
    steps = [*runbook.texts, *(Text(one.line, one.text, True) for one in runbook.commands)]
    exported: int | None = None
    for step in sorted((one for one in steps if one.item), key=lambda one: one.line):
        words = step.text.lower()
        if re.search(r"(?<![\w-])export(ed|s)?(?![\w-])", words) and not _is_assignment(step.text):
            exported = step.line
        if exported is not None and re.search(r"\b(verif|compar|check|receipt|digest|sha-?256|count)", words):
            exported = None
        if exported is not None and re.search(r"(?<![\w-])(clear|reset|delete|wipe|purge|truncate)(?![\w-])", words):
            why = f"the export of line {exported} is not looked at before what was exported is gone"
            yield step.line, step.text, why, "compare number and digest of the export with its receipt first"
            exported = None


def _rate_for_ratio(runbook: Runbook) -> Found:
    for text in runbook.texts:
        if re.search(r"\bfill[ _-]rate\b.*\d+ ?%", text.text, re.IGNORECASE):
            why = (
                "a rate is per second; what has a percentage is the fill ratio, and an alert on a rate would never fire"
            )
            yield text.line, text.text, why, "say fill ratio"


def _alert_too_late(runbook: Runbook) -> Found:
    size = _buffer_size(runbook)
    for text in runbook.texts:
        said = re.search(r"(\d+) ?%.*?\bfor\b\D*(\d+) ?(min|m\b|s\b|sec)", text.text, re.IGNORECASE)
        if said is None or size is None:
            continue
        hold_s = int(said[2]) * (1 if said[3].lower().startswith("s") else 60)
        rate = size * (1 - int(said[1]) / 100) / hold_s
        why = (
            f"with {size} slots it fires before the buffer is full only while fewer than {rate:.2f} events/s come in than go out; "
            "any outage fills the rest sooner"
        )
        yield text.line, text.text, why, "page on the time that is left (predict_linear) and on failing flushes"


RULES: tuple[Rule, ...] = (
    Rule("unreadable", Kind.MISSING, _unreadable),
    Rule("unknown-command", Kind.MISSING, _unknown_command),
    Rule("no-such-host", Kind.MISSING, _no_such_host),
    Rule("unknown-admin-request", Kind.MISSING, _unknown_admin),
    Rule("missing-input", Kind.MISSING, _missing_input),
    Rule("local-only", Kind.NOTHING, _local_only),
    Rule("tests-something-else", Kind.NOTHING, _elsewhere),
    Rule("http-error-ignored", Kind.BLIND, _http_error_ignored),
    Rule("sampled-log", Kind.BLIND, _sampled),
    Rule("last-stage-only", Kind.BLIND, _last_stage_only),
    Rule("failure-swallowed", Kind.BLIND, _swallowed),
    Rule("leftover", Kind.UNSAFE, _leftover),
    Rule("clear-unverified", Kind.UNSAFE, _clear_unverified),
    Rule("rate-for-ratio", Kind.UNSAFE, _rate_for_ratio),
    Rule("alert-too-late", Kind.UNSAFE, _alert_too_late),
)


# -- what the rules look at


def _stages(runbook: Runbook) -> Iterator[tuple[Command, Stage]]:
    for command in runbook.commands:
        for stage in command.stages:
            yield command, stage


def _begins(words: list[str], command: str) -> bool:
    return words[: len(command.split())] == command.split()


def _urls(stage: Stage) -> Iterator[str]:
    if tool_of(stage)[0] in ("curl", "wget"):
        yield from (word for word in stage.words[1:] if "://" in word or "/admin/" in word)


def _hosts(stage: Stage) -> Iterator[str]:
    for word in stage.words:
        if "://" in word:
            yield (urlsplit(word).hostname or "").lower()


def _method(stage: Stage) -> str:
    words = list(stage.words)
    for option in ("-X", "--request"):
        if option in words[:-1]:
            return words[words.index(option) + 1].upper()
    has_body = stage.has("-d", "--data", "--data-binary", "--data-raw", "--json", "-F", "--form")
    return "PUT" if stage.has("-T", "--upload-file") else "POST" if has_body else "GET"


def _shows_status(stage: Stage) -> bool:
    return any("http_code" in word or "response_code" in word for word in stage.words) or stage.has(
        "-i", "-I", "--include"
    )


def _inputs(stage: Stage) -> Iterator[str]:
    words = list(stage.words)
    name, _ = tool_of(stage)
    if name == "wrangler":
        yield from (after for word, after in itertools.pairwise(words) if word in ("--file", "-f"))
    if name == "curl":
        yield from (word[1:] for word in words if word.startswith("@") and len(word) > 1 and word != "@-")


def _outputs(stage: Stage) -> Iterator[str]:
    words = list(stage.words)
    yield from (one.lstrip("0123456789>&|") for one in stage.redirections if ">" in one)
    yield from (after for word, after in itertools.pairwise(words) if word in ("-o", "--output"))
    if stage.program in ("touch", "tee"):
        yield from stage.plain()[1:]


def _stored(runbook: Runbook) -> Iterator[tuple[Command, Stores, str, str]]:
    """Objects that commands leave: the command, how, the key (without its bucket), and the tool."""
    for command, stage in _stages(runbook):
        name, words = tool_of(stage)
        for stores in tools()[name].stores if name in tools() else ():
            if not _begins(words, stores.command):
                continue
            given = _flag(stage, stores.flag) if stores.flag else next(iter(words[stores.at or 0 :]), None)
            if given:
                key = given.partition("://")[2] or given
                yield command, stores, key if stores.flag else key.partition("/")[2] or key, name


def _flag(stage: Stage, flag: str | None) -> str | None:
    words = list(stage.words)
    return next((after for word, after in itertools.pairwise(words) if word == flag), None)


def _is_assignment(text: str) -> bool:
    return re.match(r"\s*export\s+\w+=", text) is not None


def _buffer_size(runbook: Runbook) -> int | None:
    """The buffer's size before the runbook changes it: "from 2000", or the smallest that is named."""
    sizes: list[int] = []
    for text in (*runbook.code, *runbook.texts):
        if re.search(r"buffer[ _]?size", text.text, re.IGNORECASE):
            sizes += [int(number) for number in re.findall(r"\b(\d{3,7})\b", text.text)]
    return min(sizes, default=None)
