"""A target file is read strictly, and kept without its secrets."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.records.errors import InvalidDocument, MissingRecord, NewerVersion
from loadtests.records.redaction import HIDDEN, redacted
from loadtests.records.target import (
    Admin,
    Hook,
    Ingest,
    Logs,
    Metrics,
    Process,
    Storage,
    Table,
    Target,
    load_target,
)

REMOTE = """\
name: mine
ingest: {url: "https://collector.example/events", headers: {Authorization: Bearer x}}
table:
  catalog: {type: rest, uri: "https://catalog.example", token: x}
  identifier: analytics.events
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_target_needs_a_name_a_way_in_and_a_table(tmp_path: Path) -> None:
    """The rest has defaults; a contract promises the most unless the file says less."""
    target = load_target(write(tmp_path, REMOTE))
    assert (target.ingest.mode, target.process, target.table.columns.id) == ("batch", None, "id")
    assert (target.contract.delivery, target.contract.durability) == ("exactly_once", "fsync")
    assert target.contract.refusals.statuses == [429, 503]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name: mine", "name: My Target"), r"mine\.yaml:1: name: Expected `str` matching regex"),
        (("https://collector", "ftp://collector"), r"mine\.yaml:2: ingest\.url: Expected `str` matching regex"),
        (("headers:", "header:"), r"mine\.yaml:2: ingest: Object contains unknown field `header`\."),
        (("analytics.events", "events"), r"mine\.yaml:5: table\.identifier: "),
        (("  identifier: analytics.events\n", ""), r"table: without `process` the table's `catalog` properties and `identif"),
        (("name: mine", "name: mine\ncontract: {delivery: twice}"), r"mine\.yaml:2: contract\.delivery: Invalid enum value"),
        (("name: mine", "name: mine\ncontract:\n  refusals:\n    statuses: [429, 200]"), r"mine\.yaml:4: contract\.refusals\.sta"),
        (("name: mine", "name: mine\nprocess: {command: [], ready: 'http://a'}"), r"mine\.yaml:2: process\.command: "),
        (("name: mine", "name: mine\nschema: icequake.verdict/1.0"), r"mine\.yaml:2: schema: .* is not a version of"),
        (("name: mine", "name: [mine"), r"mine\.yaml:2: "),
    ],
)  # fmt: skip
def test_a_wrong_target_is_one_sentence_with_file_and_line(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    """Typing errors, wrong values and missing parts are found before anything is started."""
    path = write(tmp_path, REMOTE.replace(*change))
    with pytest.raises(InvalidDocument, match=message) as caught:
        load_target(path)
    assert "\n" not in str(caught.value)


def test_a_target_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """A later icequake may mean something else by it."""
    with pytest.raises(NewerVersion):
        load_target(write(tmp_path, REMOTE + "schema: icequake.target/2.0\nfuture: 1\n"))
    assert load_target(write(tmp_path, REMOTE + "schema: icequake.target/1.1\n")).name == "mine"


def test_a_missing_target_is_said_to_be_missing(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(MissingRecord, match=r"none\.yaml does not exist"):
        load_target(tmp_path / "none.yaml")


CANARY = "cAnArY"
HEADERS = (
    "Authorization", "Cookie", "X-Api-Key", "X-Auth", "CF-Access-Client-Secret", "Proxy-Authorization", "X-Goog-Signature",
    "X-Anything",
)  # fmt: skip
PROPERTIES = (
    "token", "credential", "s3.access-key-id", "s3.secret-access-key", "s3.session-token", "adls.account-key", "gcs.oauth2.token",
    "header.Authorization", "header.X-Custom", "adls.sas-token", "adls.connection-string",
)  # fmt: skip
VARIABLES = ("API_TOKEN", "PGPASS", "DB_PWD", "SENTRY_DSN", "SIGNING_SALT", "PLAIN_NAME", "KEY_PIN")


def secretive(secret: str) -> Target:
    """A target that carries *secret* everywhere it can."""
    address = f"https://user:{secret}@host.example/path?sig={secret}"
    return Target(
        name="mine",
        ingest=Ingest(url=address, headers=dict.fromkeys(HEADERS, f"Bearer {secret}")),
        admin=Admin(url=address),
        metrics=Metrics(url=f"https://{secret}@host.example/metrics"),
        logs=Logs(command=f"tail --token {secret}", fill="fill"),
        process=Process(
            command=["run", "serve", "--token", secret], ready=address, env=dict.fromkeys(VARIABLES, secret)
        ),
        hooks={"cut": Hook(inject=f"./cut {secret}", heal=f"KEY={secret} ./heal", probe=f"curl\t-H {secret}")},
        storage=Storage(endpoint=address, bucket="b"),
        table=Table(
            catalog={**dict.fromkeys(PROPERTIES, secret), "uri": address, "s3.endpoint": address}, identifier="a.b"
        ),
    )


def test_no_secret_survives_redaction() -> None:
    """A canary planted in every header, variable, property, argument and URL is nowhere in the copy."""
    text = yaml.safe_dump(msgspec.to_builtins(redacted(secretive(CANARY))))
    assert CANARY in yaml.safe_dump(msgspec.to_builtins(secretive(CANARY)))
    assert CANARY not in text
    assert "host.example/path" in text


@settings(deadline=None)
@given(
    st.from_regex(r"Q[a-zA-Z0-9+/=:@?#&. _-]{3,30}Q", fullmatch=True),
    st.from_regex(r"[A-Za-z_.-]{1,12}", fullmatch=True),
)
def test_no_value_of_an_unknown_name_survives(secret: str, name: str) -> None:
    """Names nobody has heard of are taken for secret; only harmless values and known names are shown."""
    name = f"x-{name}"
    target = Target(
        name="mine",
        ingest=Ingest(url="http://a", headers={name: secret}),
        process=Process(command=["run"], ready="http://a", env={name: secret}),
        table=Table(catalog={name: secret}),
    )
    assert secret not in repr(redacted(target))


@pytest.mark.parametrize(
    ("name", "shown"), [("WORKERS", "4"), ("DEBUG", "true"), ("TIMEOUT_S", "2.5"), ("API_TOKEN", "env:T")]
)
def test_what_reproduces_a_run_is_kept(name: str, shown: str) -> None:
    """Numbers, truth values and references to the environment are no secrets."""
    process = Process(command=["{python}", "-m", "collector"], ready="http://a:1/readyz", env={name: shown})
    target = Target(name="mine", ingest=Ingest(url="http://a", headers={"Content-Type": "text/plain"}), process=process)
    assert redacted(target) == target


def test_a_number_under_a_secret_name_is_hidden() -> None:
    """A PIN is a number too."""
    process = Process(command=["run"], ready="http://a", env={"DOOR_PIN": "1234", "API_TOKEN": "12345678"})
    kept = redacted(Target(name="mine", ingest=Ingest(url="http://a"), process=process)).process
    assert kept is not None
    assert set(kept.env.values()) == {HIDDEN}


def test_a_redacted_target_is_still_a_target() -> None:
    """It can be read back, and redacting it again changes nothing."""
    once = redacted(secretive(CANARY))
    assert msgspec.convert(msgspec.to_builtins(once), Target) == once
    assert redacted(once) == once
