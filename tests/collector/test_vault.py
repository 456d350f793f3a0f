"""Export, reset and replay: nothing is lost that was not discarded on purpose, nothing is doubled, nothing is changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from collector.admin import AdminApp
from collector.buffer import Buffer
from collector.cloudevents import DATA_ABSENT, DATA_BINARY, DATA_JSON, DATA_TEXT, Event
from collector.config import Limits, from_environ
from collector.crashpoints import CrashPoints
from collector.errors import BufferFull, NotDiscarded, NotReplayed, StoreUnavailable, TableUnreadable
from collector.landed import Landed
from collector.lines import LineParser, to_line
from collector.quarantine import CHUNK_BYTES, quarantine_lines
from collector.store import Poison
from collector.vault import Vault
from tests.collector.conftest import ADMIN_TOKEN, ENVIRON, Answer, call, make_service
from tests.collector.keep_support import DirectoryTable, ManualClock, event, events, make_buffer, make_flusher

PARSER = LineParser(Limits(), lambda: 0.0)
RIGHT = [("authorization", f"Bearer {ADMIN_TOKEN}")]

JSON_TEXT = st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text("aé\n\"\\€", max_size=8),
                         lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\n", max_size=4), inner,
                                                                                      max_size=3), max_leaves=6)  # fmt: skip
DATA = st.one_of(
    st.tuples(st.none(), st.just(DATA_ABSENT), st.just("application/json")),
    st.tuples(
        st.builds(lambda value, indent: json.dumps(value, indent=indent).encode(), JSON_TEXT, st.none() | st.just(1)),
        st.just(DATA_JSON),
        st.sampled_from([None, "application/json"]),
    ),
    st.tuples(st.sampled_from([b" {} ", b"[1,\r\n2]", b"1.50", b"null", b'"x"\n']), st.just(DATA_JSON), st.none()),
    st.tuples(
        st.text("ab\0\n\r\"€", max_size=9).map(str.encode), st.just(DATA_TEXT), st.just("text/plain")
    ),
    st.tuples(st.binary(min_size=1, max_size=60), st.just(DATA_BINARY), st.sampled_from([None, "image/png"])),
)  # fmt: skip
EXTENSIONS = st.dictionaries(
    st.sampled_from(["datakind", "traceparent", "a1"]),
    st.text("aé &", max_size=9) | st.booleans() | st.integers(-(2**31), 2**31 - 1),
    max_size=3,
)


@given(DATA, EXTENSIONS)
def test_a_line_gives_back_the_event_byte_for_byte(
    data: tuple[bytes | None, int, str | None], extensions: dict[str, Any]
) -> None:
    """Whatever kind its data and extensions are, one line holds it and nothing of it changes."""
    body, kind, media_type = data
    text = json.dumps(extensions, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    before = Event(
        "i", "urn:s", "t", "2026-01-01T01:00:00+01:00", 1_767_225_600_000_000, None, media_type, None, body, kind,
        text if extensions else None,
    )  # fmt: skip
    line = to_line(before)

    assert line.count(b"\n") == 1
    assert PARSER.parse(line[:-1]) == before


def test_an_event_of_the_largest_size_comes_back() -> None:
    """What its encoding adds does not count against the limit."""
    before = replace_data(event(0), bytes(range(256)) * 4096, DATA_BINARY)

    assert PARSER.parse(to_line(before)[:-1]) == before


def replace_data(one: Event, data: bytes, kind: int) -> Event:
    return msgspec.structs.replace(one, data=data, data_kind=kind)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def buffer(tmp_path: Path, clock: ManualClock) -> Iterator[Buffer]:
    made = make_buffer(tmp_path / "buffer", clock)
    yield made
    made.close()


@pytest.fixture
def vault(buffer: Buffer, clock: ManualClock) -> Vault:
    return Vault(buffer, PARSER, clock=clock)


def post(buffer: Buffer, first: int, count: int) -> None:
    buffer.submit(events(first, count)).result(timeout=10)


def export(vault: Vault) -> tuple[list[bytes], dict[str, Any]]:
    *lines, last = b"".join(vault.export()).splitlines()
    return lines, json.loads(last)["receipt"]


def named(receipt: dict[str, Any]) -> tuple[int, str]:
    return receipt["events"], receipt["sha256"]


def ids(lines: list[bytes]) -> list[str]:
    return [json.loads(line)["id"] for line in lines]


def test_an_export_is_the_buffer_at_one_moment(buffer: Buffer, vault: Vault) -> None:
    """What arrives while it goes on is not in it; number and digest are those of the lines."""
    post(buffer, 0, 3)
    post(buffer, 3, 3)
    going = vault.export()
    first = next(going)
    post(buffer, 6, 3)
    *lines, last = (first + b"".join(going)).splitlines(keepends=True)

    receipt = json.loads(last)["receipt"]
    assert ids(lines) == [f"id-{n}" for n in range(6)]
    assert named(receipt) == (6, hashlib.sha256(b"".join(lines)).hexdigest())


def test_an_export_holds_an_undecided_flush_and_leaves_out_what_it_dropped(
    buffer: Buffer, vault: Vault, clock: ManualClock, tmp_path: Path
) -> None:
    """In-flight events belong to the backup; duplicates do not; the receipt names the flush."""
    post(buffer, 0, 3)
    post(buffer, 2, 3)
    table = DirectoryTable(tmp_path / "table", script=["lost"])
    flusher = make_flusher(buffer, table, clock)
    flusher.request_flush()
    flusher.step()
    lines, receipt = export(vault)

    assert sorted(ids(lines)) == [f"id-{n}" for n in range(5)]
    assert len(receipt["undecided"]) == 1


def test_a_reset_discards_what_was_exported_and_nothing_else(buffer: Buffer, vault: Vault) -> None:
    """An event that came after the export stays; the answer is exact; a second reset finds nothing and says what went."""
    post(buffer, 0, 5)
    _, receipt = export(vault)
    post(buffer, 5, 2)
    answer = vault.reset(receipt=named(receipt))
    again = vault.reset(receipt=named(receipt))

    assert (answer.discarded.events, answer.discarded.sha256) == named(receipt)
    assert answer.discarded.partitions == ({"type": "t", "hour": 490896, "events": 5},)
    assert answer.kept_events == 2
    assert (again.discarded.events, again.earlier) == (0, (answer.discarded,))
    assert ids(export(vault)[0]) == ["id-5", "id-6"]
    assert (buffer.snapshot().events, buffer.snapshot().discarded) == (2, 5)


def test_a_receipt_never_covers_what_came_after_a_restart(
    buffer: Buffer, vault: Vault, clock: ManualClock, tmp_path: Path
) -> None:
    """Ids of stored requests are not used again, so an old receipt cannot discard what nobody exported."""
    post(buffer, 0, 5)
    _, receipt = export(vault)
    vault.reset(receipt=named(receipt))
    buffer.close()
    second = make_buffer(tmp_path / "buffer", clock)
    post(second, 5, 2)
    answer = Vault(second, PARSER, clock=clock).reset(receipt=named(receipt))
    second.close()

    assert (answer.discarded.events, answer.kept_events) == (0, 2)


def test_a_reset_without_a_true_receipt_or_number_discards_nothing(buffer: Buffer, vault: Vault) -> None:
    """A wrong digest, an export that was not finished, a wrong number: all stay."""
    post(buffer, 0, 5)
    next(vault.export())
    lines, receipt = export(vault)
    for wrong in ((4, receipt["sha256"]), (5, "0" * 64)):
        with pytest.raises(NotDiscarded, match="no export"):
            vault.reset(receipt=wrong)
    with pytest.raises(NotDiscarded, match='"discard 5 events"'):
        vault.reset(receipt=None, confirmed_events=4)

    assert len(lines) == buffer.snapshot().events == 5
    assert vault.reset(receipt=None, confirmed_events=5).discarded.events == 5


def test_a_reset_leaves_an_undecided_flush_and_says_so(
    buffer: Buffer, vault: Vault, clock: ManualClock, tmp_path: Path
) -> None:
    """It may be in the table already, so it lands by itself; only what waits goes."""
    table = DirectoryTable(tmp_path / "table", script=["lost"])
    flusher = make_flusher(buffer, table, clock)
    post(buffer, 0, 3)
    flusher.request_flush()
    flusher.step()
    post(buffer, 3, 2)
    answer = vault.reset(receipt=named(export(vault)[1]))

    assert answer.discarded.events == 2
    assert answer.kept_flush is not None
    assert (answer.kept_flush["state"], answer.kept_flush["events"]) == ("intent", 3)
    clock.advance(60)
    flusher.request_flush()
    flusher.step()
    assert len(table.rows()) == 3


def test_a_replay_twice_doubles_nothing(buffer: Buffer, vault: Vault, clock: ManualClock, tmp_path: Path) -> None:
    """Whether the events wait, are in the table, or were discarded: each is there once."""
    table = DirectoryTable(tmp_path / "table")
    flusher = make_flusher(buffer, table, clock)
    post(buffer, 0, 5)
    lines, receipt = export(vault)
    everything = [*lines, json.dumps({"receipt": receipt}, separators=(",", ":")).encode()]
    vault.reset(receipt=named(receipt))
    counts = []
    for _ in range(2):
        replay = vault.replay()
        replay.take(everything)
        counts.append((replay.result.accepted, replay.result.duplicate, replay.result.complete))
    flusher.request_flush()
    flusher.step()
    replay = vault.replay()
    replay.take([*everything[:2], b"{}"])

    assert counts == [(5, 0, True), (0, 5, True)]
    assert (replay.result.accepted, replay.result.duplicate, replay.result.quarantined) == (0, 2, 1)
    assert not replay.result.complete
    assert set(table.rows().values()) == {1}
    assert [one["event_base64"] for one in listed(buffer)[:-1]] == ["e30="]
    vault.replay().take([b"{}"])
    assert buffer.snapshot().quarantined == 1


def hours_of(table: DirectoryTable) -> Landed:
    return Landed(lambda _hour: list(table.rows()))


def test_a_backup_older_than_the_dedupe_window_doubles_nothing(
    buffer: Buffer, clock: ManualClock, tmp_path: Path
) -> None:
    """What the window forgot, the table still knows; what was discarded comes back."""
    table = DirectoryTable(tmp_path / "table")
    flusher = make_flusher(buffer, table, clock)
    post(buffer, 0, 5)
    old = Vault(buffer, PARSER, clock=clock, landed=lambda: hours_of(table))
    lines, _ = export(old)
    flusher.request_flush()
    flusher.step()
    clock.advance(2 * 3600)
    post(buffer, 5, 1)
    flusher.request_flush()
    flusher.step()  # the window forgets when it learns
    blind, replay = Vault(buffer, PARSER, clock=clock).replay(), old.replay()
    replay.take([*lines, to_line(event(9))[:-1]])
    assert (replay.result.accepted, replay.result.duplicate) == (1, 5)
    blind.take(lines)

    assert blind.result.accepted == 5, "the window alone would have doubled them"


def test_a_replay_that_cannot_ask_the_table_stores_nothing(buffer: Buffer, clock: ManualClock) -> None:
    """What the window knows is a duplicate all the same; of the rest nothing tells whether it landed."""

    def down(_hour: int) -> list[tuple[str, str]]:
        raise StoreUnavailable("no answer")

    vault = Vault(buffer, PARSER, clock=clock, landed=lambda: Landed(down))
    post(buffer, 0, 3)
    lines, _ = export(vault)
    replay = vault.replay()
    replay.take(lines)
    with pytest.raises(TableUnreadable, match="no answer"):
        replay.take([to_line(event(7))[:-1]])

    assert (replay.result.accepted, replay.result.duplicate, buffer.snapshot().events) == (0, 3, 3)


def test_a_chunk_that_does_not_fit_is_not_stored_at_all(clock: ManualClock, tmp_path: Path) -> None:
    """All or nothing, so that the same chunk may be given again."""
    buffer = make_buffer(tmp_path / "b", clock, capacity_events=4)
    post(buffer, 0, 2)
    with pytest.raises(BufferFull):
        Vault(buffer, PARSER, clock=clock).replay().take([to_line(one)[:-1] for one in events(2, 3)])
    assert buffer.snapshot().events == 2
    buffer.close()


def test_without_dedupe_there_is_no_replay(clock: ManualClock, tmp_path: Path) -> None:
    """Nothing could tell what was replayed before."""
    buffer = make_buffer(tmp_path / "b", clock, dedupe_window_s=0)
    with pytest.raises(NotReplayed, match="DEDUPE_WINDOW_S"):
        Vault(buffer, PARSER, clock=clock).replay()
    buffer.close()


def test_a_damaged_request_is_counted_and_kept(buffer: Buffer, vault: Vault) -> None:
    """It is in no export, so no reset may discard it; it goes to quarantine with its flush."""
    post(buffer, 0, 2)
    post(buffer, 2, 2)
    buffer.write(lambda store: store.conn.execute("UPDATE requests SET crc=0 WHERE id=1"))
    lines, receipt = export(vault)

    assert (len(lines), receipt["damaged_requests"]) == (2, 1)
    assert vault.reset(receipt=named(receipt)).kept_events == 2


# ---- over HTTP


def ask(buffer: Buffer, method: str, path: str, body: bytes = b"", **options: Any) -> Answer:
    config = from_environ({**ENVIRON, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret-canary"})
    service = make_service(cast(Any, buffer), config=config, crash=CrashPoints())
    cast(Any, service.flusher).close()
    answer = asyncio.run(call(AdminApp(service, buffer), method, path, RIGHT, body=body, **options))
    assert answer is not None
    return answer


def test_export_reset_and_replay_over_http(buffer: Buffer) -> None:
    """The answer to an export is the body of a replay, and its last line opens the reset; lines may be cut anywhere."""
    post(buffer, 0, 450)
    backup = ask(buffer, "GET", "/admin/export")
    receipt = json.loads(backup.body.splitlines()[-1])
    reset = ask(buffer, "POST", "/admin/reset", json.dumps(receipt).encode())
    half = len(backup.body) // 2
    replayed = ask(buffer, "POST", "/admin/replay", chunks=[backup.body[:half], backup.body[half:]])
    again = ask(buffer, "POST", "/admin/replay", backup.body.rstrip(b"\n"))

    assert backup.headers["content-type"] == "application/x-ndjson"
    assert reset.json()["discarded"]["events"] == 450
    assert replayed.json() == {"accepted": 450, "duplicate": 0, "quarantined": 0, "complete": True}
    assert again.json() == {"accepted": 0, "duplicate": 450, "quarantined": 0, "complete": True}


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{}", 400), (b'{"confirm":"yes"}', 400), (b'{"confirm":"discard 2 events"}', 409),
     (b'{"receipt":{"events":1,"sha256":"x"}}', 409), (b"x" * 5000, 413)],
)  # fmt: skip
def test_a_reset_that_is_not_meant_is_refused(buffer: Buffer, body: bytes, status: int) -> None:
    """A slip of the hand discards nothing."""
    post(buffer, 0, 1)

    assert ask(buffer, "POST", "/admin/reset", body).status == status
    assert buffer.snapshot().events == 1


def test_a_replay_that_ends_early_says_how_far_it_came(buffer: Buffer) -> None:
    """What was stored stays, what was not is not acknowledged."""
    lines = b"".join(map(to_line, events(0, 250)))
    answer = ask(buffer, "POST", "/admin/replay", chunks=[lines], disconnect=True)

    assert (answer.status, answer.json()["accepted"]) == (400, 200)
    assert buffer.snapshot().events == 200


def test_config_shows_every_variable_and_no_secret(buffer: Buffer) -> None:
    """An operator sees what is in force; whoever reads over the shoulder learns no key."""
    answer = ask(buffer, "GET", "/admin/config")
    defaults = answer.json()["defaults"]
    assert defaults["ICEBERG_BUFFER_SIZE"] == "2000"
    assert "ADMIN_TOKEN" not in defaults
    variables = answer.json()["variables"]

    assert variables["ICEBERG_BUFFER_SIZE"] == "2000"
    assert variables["AWS_SECRET_ACCESS_KEY"] == "***"
    assert variables["CATALOG_TOKEN"] == ""
    assert b"secret-canary" not in answer.body
    assert ADMIN_TOKEN.encode() not in answer.body


def test_quarantine_names_the_event(buffer: Buffer) -> None:
    """By source and id, so that whoever sent it can account for it; bytes that are no event have none."""
    good = event(3)
    buffer.write(lambda store: store.insert_poison("f", [Poison("t", 1, "no", msgspec.msgpack.encode(good))], 0.0))
    one, total = answered_lines(ask(buffer, "GET", "/admin/quarantine"))

    assert (one["source"], one["id"], one["reason"]) == (good.source, good.id, "no")
    assert total == {"total": 1}


def test_quarantine_lists_reason_and_bytes(buffer: Buffer, vault: Vault) -> None:
    """What cannot become a row can be looked at."""
    vault.replay().take([b"no event"])
    answer = ask(buffer, "GET", "/admin/quarantine")
    one, total = answered_lines(answer)

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert (one["event_base64"], total) == ("bm8gZXZlbnQ=", {"total": 1})
    assert "JSON" in one["reason"]
    assert ask(buffer, "POST", "/admin/quarantine").status == 405


def test_the_whole_quarantine_is_listed_and_little_of_it_is_in_memory(buffer: Buffer) -> None:
    """However many there are: each once, oldest first, and the number as the last line; an answer that is cut off has none."""
    poison = [Poison("t", 1, f"reason {number}", bytes(100)) for number in range(5000)]
    buffer.write(lambda store: store.insert_poison("f", poison, 0.0))
    chunks = list(quarantine_lines(buffer))
    lines = [json.loads(line) for chunk in chunks for line in chunk.splitlines()]

    assert [line["reason"] for line in lines[:-1]] == [one.reason for one in poison]
    assert lines[-1] == {"total": 5000}
    assert max(map(len, chunks)) < 2 * CHUNK_BYTES
    assert answered_lines(ask(buffer, "GET", "/admin/quarantine")) == lines


def test_a_quarantine_that_cannot_be_read_is_503(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first byte there is a status; the list is never shorter than what is kept."""
    monkeypatch.setattr("collector.buffer.open_database", raising(sqlite3.OperationalError("disk I/O error")))

    assert ask(buffer, "GET", "/admin/quarantine").status == 503


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def answered_lines(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.body.splitlines()]


def listed(buffer: Buffer) -> list[dict[str, Any]]:
    return [json.loads(line) for chunk in quarantine_lines(buffer) for line in chunk.splitlines()]
