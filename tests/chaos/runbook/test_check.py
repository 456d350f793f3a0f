"""`icequake runbook check`: each way in which a runbook's commands deceive whoever follows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from chaos.cli import icequake, run_command
from chaos.runbook.document import parse_runbook, read_runbook
from chaos.runbook.findings import Kind, Report
from chaos.runbook.rules import RULES, check_runbook
from chaos.runbook.tools import tools

WRONG = Path(__file__).parent / "wrong.md"
ROOT = Path(__file__).parents[3]


def shell(*lines: str) -> Report:
    return check_runbook(parse_runbook("\n".join(["```bash", *lines, "```"])))


def rules(report: Report) -> set[str]:
    return {one.rule for one in report.findings}


def test_a_runbook_with_every_class_of_error() -> None:
    """Commands that do not exist, do nothing, cannot see failure, or do harm: each is found on its own line."""
    report = check_runbook(parse_runbook(WRONG.read_text(encoding="utf-8")))

    assert {(one.line, one.rule) for one in report.findings} == {
        (3, "rate-for-ratio"),
        (3, "alert-too-late"),
        (8, "sampled-log"),
        (8, "last-stage-only"),
        (14, "http-error-ignored"),
        (14, "no-such-host"),
        (14, "unknown-admin-request"),
        (22, "local-only"),
        (22, "tests-something-else"),
        (22, "missing-input"),
        (22, "leftover"),
        (23, "unknown-command"),
        (23, "failure-swallowed"),
        (31, "clear-unverified"),
        (35, "unknown-command"),
    }
    assert report.exit_code == 1
    assert {one.kind for one in report.findings} == set(Kind)


def test_every_finding_says_why_and_what_to_write() -> None:
    """Not only that something is wrong."""
    report = check_runbook(parse_runbook(WRONG.read_text(encoding="utf-8")))

    assert all(one.why and one.instead and one.text for one in report.findings)
    assert {one.rule for one in report.findings} | {"unreadable"} == {rule.name for rule in RULES}


@pytest.mark.parametrize(
    ("wrong", "right", "rule"),
    [
        ("curl https://x/healthz", "curl --fail-with-body https://x/healthz", "http-error-ignored"),
        ("curl -s https://x/healthz", "curl -sf https://x/healthz", "http-error-ignored"),
        ("curl https://x/", "curl -o /dev/null -w '%{http_code}' https://x/", "http-error-ignored"),
        ("curl -f https://w.workers.dev/", "curl -f https://w.account.workers.dev/", "no-such-host"),
        ("curl -f https://x/admin/flush", "curl -f -X POST https://x/admin/flush", "unknown-admin-request"),
        ("curl -f https://x/admin/dump", "curl -f https://x/admin/export", "unknown-admin-request"),
        ("curl -f -d @in.json https://x/", "echo {} > in.json; curl -f -d @in.json https://x/", "missing-input"),
        ("wrangler kv key put k v", "wrangler kv key put k v --remote", "local-only"),
        ("wrangler durable-objects reset X", "wrangler deployments list", "unknown-command"),
        ("npx wrangler@4 r2 objects put", "npx wrangler@4 r2 object get b/k --remote", "unknown-command"),
        ("icequake drain", "icequake drill drain-and-restart", "unknown-command"),
        ("icequake drill x --tidy", "icequake drill x --print", "unknown-command"),
        ("icequake runbook lint x", "icequake runbook check x", "unknown-command"),
        ("curl -f https://x | jq .", "set -o pipefail; curl -f https://x | jq .", "last-stage-only"),
        ("kubectl get pods 2>/dev/null", "kubectl get pods", "failure-swallowed"),
        ("kubectl get pods || true", "kubectl get pods || exit 1", "failure-swallowed"),
        ("aws s3 cp x s3://b/p/k", "aws s3 cp x s3://b/p/k; aws s3 rm s3://b/p/k", "leftover"),
        ("aws s3 cp x s3://b/k", "aws s3 cp x s3://b/table/data/k", "tests-something-else"),
        ("echo 'open", "echo 'closed'", "unreadable"),
    ],
)
def test_a_rule_finds_the_wrong_command_and_not_the_right_one(wrong: str, right: str, rule: str) -> None:
    """The smallest difference between the two is what the rule is about."""
    assert rule in rules(shell(wrong))
    assert rule not in rules(shell(right))


def test_an_export_that_is_looked_at_may_be_cleared() -> None:
    """Verifying it, by whatever word, is the step in between; without one the order is unsafe."""
    steps = "1. Export the buffer\n{}2. Clear the buffer\n3. Replay\n"

    assert rules(check_runbook(parse_runbook(steps.format("")))) == {"clear-unverified"}
    assert rules(check_runbook(parse_runbook(steps.format("1. Compare count and digest with the receipt\n")))) == set()


def test_an_alert_is_measured_against_the_buffer_that_is_named() -> None:
    """The smallest size counts, which is the one before it is scaled; without any size nothing can be said."""
    alert = "Fill ratio over {}% for {} minutes\n\nBUFFER_SIZE from 2000 to 5000\n"
    (found,) = check_runbook(parse_runbook(alert.format(90, 5))).findings

    assert (found.rule, "0.67 events/s" in found.why) == ("alert-too-late", True)
    assert rules(check_runbook(parse_runbook("Fill ratio over 90% for 5 minutes\n"))) == set()


def test_answers_and_configuration_are_no_commands() -> None:
    """Only shells, and prompts where no language is given; what a command answered is not one."""
    text = "```json\nwrangler nonsense\n```\n\n```\nwrangler nonsense\n```\n\n```\n$ echo one\nwrangler nonsense\n```\n"

    assert [one.text for one in parse_runbook(text).commands] == ["echo one"]


def test_what_is_not_known_is_not_said_to_be_right() -> None:
    """A program that no rule knows, and a page without commands, end with 2."""
    strange = shell("frobnicate --all")

    assert (strange.findings, strange.unchecked, strange.exit_code) == ([], {2: "frobnicate --all"}, 2)
    assert check_runbook(parse_runbook("# Nothing")).exit_code == 2
    assert shell("echo fine", "X=1 sleep 1").exit_code == 0


@pytest.mark.parametrize(
    "text", ["```bash\n\n# only a comment\n```", "```bash\na |\n```", "```bash\n;;\n```", "`", "```bash"]
)
def test_odd_markdown_and_odd_shell_are_read(text: str) -> None:
    """Nothing is executed and nothing is raised."""
    assert check_runbook(parse_runbook(text)).exit_code in (0, 1, 2)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_the_documentation_of_icequake_has_nothing_wrong(page: Path) -> None:
    """Every command of icequake in it exists, with its options."""
    assert check_runbook(read_runbook(page)).findings == []


def test_the_table_of_tools_can_be_read() -> None:
    """And names where what it says comes from."""
    assert all(tool.source for tool in tools().values())


def test_the_command_prints_for_people_and_programs(tmp_path: Path) -> None:
    """Line, rule, why and what instead; as JSON the same, and the exit code in both."""
    told = CliRunner().invoke(icequake, ["runbook", "check", str(WRONG)], standalone_mode=False)
    plain = CliRunner().invoke(icequake, ["runbook", "check", str(WRONG), "--json"], standalone_mode=False)
    document = json.loads(plain.output)

    assert told.return_value == plain.return_value == document["exit_code"] == 1
    assert "line 35" in told.output
    assert "there is no `wrangler queue`" in told.output
    assert document["schema"] == "icequake.runbook-check/1.0"
    assert {"rule", "kind", "line", "text", "why", "instead"} == set(document["findings"][0])
    assert run_command(["runbook", "check", str(tmp_path / "none.md")]) == 254
