"""A run directory whose files are missing, cut, garbled, older or hostile: a sentence or a page, never a traceback or a script."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

from loadtests.records.rundir import RunDir
from reports import explain, judge, render, series_export
from reports.diagnosis import command as diagnose
from reports.keyset import count
from reports.observed import Keys, Observed, ObservedFile, ObservedSnapshot, write_index, write_keys
from tests.reports.drawn_runs import HOSTILE, STARTED_UNIX, S, at, full_run
from tests.reports.test_render import Elements

HUGE = "x" * 100_000
POISON: tuple[object, ...] = (HOSTILE, "\ud800</script>", HUGE, None, -1, 10**30, 1e308, [], {"a": HOSTILE}, True, "")
"""What stands in place of a value: markup, half a character, too much, nothing, and every wrong type."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with every file that a report reads."""
    run = full_run(tmp_path_factory.mktemp("runs"))
    _observe(run)
    (run.root / "logs").mkdir(exist_ok=True)
    (run.root / "logs" / "target.log").write_text(f"ERROR something {HOSTILE}\n" * 50)
    line = {"schema": "icequake.quarantine/1.0", "run": "ab12cd34", "unix_ns": 1, "mono_ns": 1}
    event = {"id": "0" * 16, "source": "urn:icequake:ab12cd34:0", "reason": HOSTILE}
    (run.root / "quarantine.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(event)}\n")
    render.render(run)
    return run.root


def _observe(run: RunDir) -> None:
    stamp = (STARTED_UNIX + 30 * S) // 1_000_000
    rows = np.arange(2_000, dtype=np.uint64)
    run.observed.mkdir(exist_ok=True)
    write_keys(run.observed / "keys-00001.npz", Keys({0: count(rows)}, {}))
    file = ObservedFile(
        path=f"s3://bucket/{HOSTILE}.parquet", stage="scan", references=1, keys="keys-00001.npz", rows=2_000, ours=2_000,
        snapshot_ids=[1], unix_ms=stamp, flush_ids=[HOSTILE], size_bytes=1,
    )  # fmt: skip
    snapshot = ObservedSnapshot(id=1, parent=None, unix_ms=stamp, operation="append", current=True)
    write_index(
        run.observed,
        Observed(
            run_id="ab12cd34", table="t.events", snapshots=[snapshot], files=[file], read_mono_ns=at(119),
            read_unix_ns=STARTED_UNIX + 119 * S,
        ),
    )  # fmt: skip


# -- ways to break a file


def removed(path: Path, chance: random.Random) -> None:
    path.unlink()


def emptied(path: Path, chance: random.Random) -> None:
    path.write_bytes(b"")


def cut(path: Path, chance: random.Random) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: chance.randrange(len(raw)) if raw else 0])


def garbled(path: Path, chance: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    for _ in range(min(20, len(raw))):
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    path.write_bytes(bytes(raw))


def no_text(path: Path, chance: random.Random) -> None:
    path.write_bytes(b"\x00\xff\xfe\xc3\x28" * 40 + path.read_bytes())


def older(path: Path, chance: random.Random) -> None:
    _replace(path, r"(icequake\.\w+)/1\.\d+", r"\1/0.3")


def newer(path: Path, chance: random.Random) -> None:
    _replace(path, r"(icequake\.\w+)/1\.\d+", r"\1/9.0")


def poisoned(path: Path, chance: random.Random) -> None:
    """Put something else in place of some values of a JSON file, or of some lines of JSON."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        path.write_text(json.dumps(_poison(json.loads(text), chance)), encoding="utf-8")
    except ValueError:
        lines = text.splitlines()
        path.write_text("\n".join(_poisoned_line(n, line, chance) for n, line in enumerate(lines)) + "\n")


def directory(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _replace(path: Path, pattern: str, by: str) -> None:
    raw = path.read_bytes()
    path.write_bytes(re.sub(pattern.encode(), by.encode(), raw))


def _poisoned_line(number: int, line: str, chance: random.Random) -> str:
    try:
        return json.dumps(_poison(json.loads(line), chance)) if number and chance.random() < 0.1 else line
    except ValueError:
        return line


def _poison(value: Any, chance: random.Random) -> Any:
    if chance.random() < 0.06:
        return chance.choice(POISON)
    if isinstance(value, dict):
        return {key: _poison(item, chance) for key, item in value.items()}
    if isinstance(value, list):
        return [_poison(item, chance) for item in value]
    return value


BREAKS: tuple[Callable[[Path, random.Random], None], ...] = (
    removed, emptied, cut, garbled, no_text, older, newer, poisoned, directory,
)  # fmt: skip

COMMANDS: tuple[tuple[click.Command, tuple[str, ...]], ...] = (
    (judge.main, ()),
    (render.main, ()),
    (explain.main, ("lost",)),
    (diagnose.main, ()),
)

FILES = (
    "run.json", "scenario.yaml", "target.yaml", "timeline.jsonl", "gateway.jsonl", "visible.jsonl", "verdict.json", "quarantine.jsonl",
    "ledger/locust-0.ledger", "hist/locust-0.hdr.jsonl", "series/controller-0001.parquet", "observed/index.json",
    "observed/keys-00001.npz", "logs/target.log",
)  # fmt: skip


def test_every_file_of_the_run_is_broken_here(whole: Path) -> None:
    """A file that a report reads and nobody breaks would be trusted."""
    there = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}

    assert there - {"report.html", "report.md", "junit.xml"} == set(FILES)


def broken(whole: Path, tmp_path: Path, file: str, how: Callable[[Path, random.Random], None], seed: int) -> Path:
    root = tmp_path / "run"
    shutil.copytree(whole, root)
    how(root / file, random.Random(f"{file} {how.__name__} {seed}"))
    return root


def survives(root: Path, tmp_path: Path) -> None:
    """Every command ends with an exit code of its own and a sentence; what was written is inert."""
    out = str(tmp_path / "series.csv")
    for command, words in (*COMMANDS, (series_export.main, (out,))):
        result = CliRunner().invoke(command, [str(root), *words])
        assert result.exception is None or isinstance(result.exception, SystemExit), (command.name, result.exception)
        assert result.exit_code in (0, 1, 2, 254), (command.name, result.output)
        assert "Traceback" not in result.output
        if result.exit_code == 254:
            assert len(result.output.splitlines()) == 1
            assert len(result.output) > 20
    page = root / "report.html"
    if page.is_file():
        _inert(page.read_text(encoding="utf-8"))


def _inert(html: str) -> None:
    for tag, attributes in Elements(html).elements:
        assert tag not in ("img", "iframe", "object", "embed", "link", "base"), tag
        assert not [name for name in attributes if name.startswith("on")]
    assert len([kind for kind, _ in Elements(html).scripts if kind is None]) == 1


def _cases(seeds: int) -> Iterator[Any]:
    for file in FILES:
        for how in BREAKS:
            for seed in range(seeds if how in (cut, garbled, poisoned) else 1):
                yield pytest.param(file, how, seed, id=f"{file}-{how.__name__}-{seed}")


_QUICK = [case for number, case in enumerate(_cases(1)) if number % 9 == (number // 9) % 9]


@pytest.mark.parametrize(("file", "how", "seed"), _QUICK)
def test_one_break_of_each_file_costs_a_sentence_at_most(
    whole: Path, tmp_path: Path, file: str, how: Callable[[Path, random.Random], None], seed: int
) -> None:
    """Each file broken in one way, each way at one file."""
    survives(broken(whole, tmp_path, file, how, seed), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "how", "seed"), list(_cases(6)))
def test_every_break_of_every_file_costs_a_sentence_at_most(
    whole: Path, tmp_path: Path, file: str, how: Callable[[Path, random.Random], None], seed: int
) -> None:
    """Each file in each way, those of chance six times."""
    survives(broken(whole, tmp_path, file, how, seed), tmp_path)
