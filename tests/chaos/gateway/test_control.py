"""The control interface: who may use it, and what it answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.gateway.log import SCHEMA
from tests.chaos.gateway.fakes import TABLE, TOKEN, Seen, call, lab, plain, run

RULE = {"match": {"object": "commit"}, "action": {"do": "pass"}}


def echo(request: Seen) -> bytes:
    return plain(200, request.body)


def test_only_the_holder_of_the_token_is_answered() -> None:
    """No token and a wrong token get 401, a browser gets 403 even with the token; nothing is changed by any."""

    async def test() -> None:
        async with lab(echo) as gateway:
            document = json.dumps(RULE).encode()
            bearer = {"Authorization": f"Bearer {TOKEN}"}
            for headers, expected in (
                ({}, 401),
                ({"Authorization": "Bearer wrong"}, 401),
                ({"Authorization": TOKEN}, 401),
                (bearer | {"Origin": "http://127.0.0.1:8089"}, 403),
                (bearer | {"Origin": "null"}, 403),
            ):
                reply = await call(gateway.running.control, "PUT", "/rules/a", document, headers)
                assert expected == reply.status
                assert TOKEN not in reply.body.decode()

            assert (await gateway.control("GET", "/rules")).json["rules"] == {}

    run(test())


def test_rule_is_put_replaced_told_and_deleted() -> None:
    """201 when new, 200 when replaced, told in full, 204 when deleted and 404 when it is not there: deleting twice is safe."""

    async def test() -> None:
        async with lab(echo) as gateway:
            put = [(await gateway.control("PUT", "/rules/a", RULE)).status for _ in range(2)]
            told = (await gateway.control("GET", "/rules")).json["rules"]["a"]
            deleted = [(await gateway.control("DELETE", "/rules/a")).status for _ in range(2)]

            assert (put, deleted) == ([201, 200], [204, 404])
            assert (told["match"]["object"], told["action"]["do"]) == ("commit", "pass")
            assert (await gateway.control("PUT", "/rules/a", told)).status == 201

    run(test())


def test_wrong_rule_gets_a_sentence() -> None:
    """400 names the rule and what is wrong with it, and the rules stay as they were."""

    async def test() -> None:
        async with lab(echo) as gateway:
            reply = await gateway.control("PUT", "/rules/a", {"action": {"do": "explode"}})

            assert reply.status == 400
            assert reply.json["error"].startswith("Rule 'a': The rule cannot be read: Invalid value 'explode'")
            assert (await gateway.control("GET", "/rules")).json["rules"] == {}

    run(test())


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [("GET", "/", 404), ("POST", "/rules/a", 404), ("PUT", "/rules/a%20b", 404), ("DELETE", "/counters", 404)],
)
def test_what_is_not_offered_is_404(verb: str, path: str, status: int) -> None:
    """Other paths and verbs are refused with a sentence."""

    async def test() -> None:
        async with lab(echo) as gateway:
            reply = await gateway.control(verb, path, RULE)
            assert (status, True) == (reply.status, "error" in reply.json)

    run(test())


def test_oversized_request_is_refused() -> None:
    """The control interface reads no more than a rule can need."""

    async def test() -> None:
        async with lab(echo) as gateway:
            assert (await gateway.control("PUT", "/rules/a", {"action": "x" * 2_000_000})).status == 413

    run(test())


def test_counters_tell_totals_by_listener_and_kind() -> None:
    """Every request is counted, with and without rules."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.post_commit()
            await gateway.post_commit()
            await call(gateway.r2, "PUT", "/b/t/data/f.parquet", b"x")

            totals = (await gateway.control("GET", "/counters")).json["totals"]
            assert totals == {"catalog": {"commit": 2}, "r2": {"data-file": 1}}

    run(test())


def test_all_rules_go_at_once() -> None:
    """Healing everything is one request, and it says how many rules there were."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.control("PUT", "/rules/a", RULE)
            await gateway.control("PUT", "/rules/b", RULE)

            assert (await gateway.control("DELETE", "/rules")).json == {"deleted": 2}
            assert (await gateway.control("GET", "/healthz")).json["rules"] == 0

    run(test())


def test_log_is_switched_between_runs(tmp_path: Path) -> None:
    """Each run gets its own file with its own header; the lines of one are whole before the next begins."""

    async def test() -> None:
        async with lab(echo) as gateway:
            for run_id in ("aaaaaaaa", "bbbbbbbb"):
                path = tmp_path / f"{run_id}.jsonl"
                await gateway.control("PUT", "/run", {"run_id": run_id})
                assert (await gateway.control("POST", "/log", {"path": str(path)})).status == 200
                await gateway.post_commit()
            await gateway.control("POST", "/log", {"path": None})
            await gateway.post_commit()

            for run_id, number in (("aaaaaaaa", 1), ("bbbbbbbb", 2)):
                header, *lines = map(json.loads, (tmp_path / f"{run_id}.jsonl").read_text().splitlines())
                assert (SCHEMA, run_id) == (header["schema"], header["run"])
                assert [(number, TABLE)] == [(line["n"], line["path"]) for line in lines]

    run(test())


@pytest.mark.parametrize("path", ["relative.jsonl", "/nowhere/at/all.jsonl", 7])
def test_log_that_cannot_be_opened_leaves_the_old_one(path: object, tmp_path: Path) -> None:
    """400 with a sentence, and logging goes on where it was."""

    async def test() -> None:
        async with lab(echo) as gateway:
            good = tmp_path / "gateway.jsonl"
            await gateway.control("POST", "/log", {"path": str(good)})

            assert (await gateway.control("POST", "/log", {"path": path})).status == 400
            assert str(good) == (await gateway.control("GET", "/healthz")).json["log"]

    run(test())


def test_run_can_bring_a_seed() -> None:
    """A warm gateway serves many runs, each with its own seed."""

    async def test() -> None:
        async with lab(echo) as gateway:
            told = (await gateway.control("PUT", "/run", {"run_id": "cccccccc", "seed": 42})).json

            assert told == {"run_id": "cccccccc", "seed": 42}
            assert (await gateway.control("GET", "/healthz")).json["run"] == "cccccccc"
            assert (await gateway.control("PUT", "/run", {"run": "x"})).status == 400

    run(test())
