"""A catalog that answers with a state of the past."""

from __future__ import annotations

from tests.chaos.gateway.fakes import FakeCatalog, commit, lab, run


def test_stale_catalog_answers_with_the_state_before_the_commit_for_n_reads() -> None:
    """After a commit the next n reads of the table show it without that commit; then the truth is back."""

    async def test() -> None:
        catalog = FakeCatalog()
        async with lab(catalog) as gateway:
            await gateway.post_commit(commit("a", 0))
            await gateway.put("stale", {"do": "stale", "reads": 2}, object="load-table")
            assert (await gateway.get_table()).json == {"landed": ["a"]}
            await gateway.post_commit(commit("b", 1))

            seen = [(await gateway.get_table()).json["landed"] for _ in range(3)]
            assert seen == [["a"], ["a"], ["a", "b"]]
            assert (await gateway.log.line(outcome="stale"))["outcome"] == "stale"
            assert await gateway.counters("stale") == {"matched": 4, "applied": 2, "passed": 2}

    run(test())


def test_stale_state_does_not_move_with_later_commits() -> None:
    """The state stays the one before the first commit until it is spent, so every refresh of a retry loop is stale."""

    async def test() -> None:
        async with lab(FakeCatalog()) as gateway:
            await gateway.put("stale", {"do": "stale"}, object="load-table")
            for number, name in enumerate("abc"):
                await gateway.post_commit(commit(name, number))

            assert (await gateway.get_table()).json == {"landed": []}

    run(test())


def test_stale_state_ends_with_its_time() -> None:
    """Seconds bound it as well; they count from the commit."""

    async def test() -> None:
        async with lab(FakeCatalog()) as gateway:
            await gateway.put("stale", {"do": "stale", "seconds": 30}, object="load-table")
            await gateway.post_commit(commit("a", 0))
            gateway.clock.now_s += 29
            assert (await gateway.get_table()).json == {"landed": []}
            gateway.clock.now_s += 2

            assert (await gateway.get_table()).json == {"landed": ["a"]}

    run(test())


def test_spent_stale_rule_can_arm_again() -> None:
    """With `repeat` the next commit begins a new stale period."""

    async def test() -> None:
        async with lab(FakeCatalog()) as gateway:
            await gateway.put("stale", {"do": "stale", "reads": 1, "repeat": True}, object="load-table")
            await gateway.post_commit(commit("a", 0))
            first = [(await gateway.get_table()).json["landed"] for _ in range(2)]
            await gateway.post_commit(commit("b", 1))
            second = [(await gateway.get_table()).json["landed"] for _ in range(2)]

            assert [first, second] == [[[], ["a"]], [["a"], ["a", "b"]]]

    run(test())


def test_stale_rule_can_freeze_what_it_first_sees() -> None:
    """With since rule, the first answer after the rule was put is the one that is repeated."""

    async def test() -> None:
        async with lab(FakeCatalog()) as gateway:
            await gateway.put("frozen", {"do": "stale", "since": "rule"}, object="load-table")
            await gateway.post_commit(commit("a", 0))
            await gateway.get_table()
            await gateway.post_commit(commit("b", 1))

            assert (await gateway.get_table()).json == {"landed": ["a"]}

    run(test())
