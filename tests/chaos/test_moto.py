"""Both stacks are asked the same questions; what only the facade promises is asked of it alone."""

from __future__ import annotations

import sqlite3
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import requests
from pyiceberg.catalog import load_catalog

from chaos.errors import ChaosError, NotPossible, ToolMissing
from chaos.faults.env import Env
from chaos.faults.foreign import ForeignWriter
from chaos.setup import SetupError, find_toxiproxy
from chaos.stack import CAPABILITIES, STACKS, Stack, start
from chaos.stack.facade.endpoints import ENDPOINTS
from chaos.stack.probe import MEANINGS, probe
from chaos.stack.seaweedfs import find_weed
from chaos.warden_client import Warden
from tests.chaos.catalog_conformance import ROWS, CatalogConformance, Http, Served, append_updates, error
from tests.chaos.test_stack import listening

pytestmark = pytest.mark.integration


def started(name: str, home: Path) -> Iterator[Stack]:
    try:
        find_toxiproxy()
        if name == "seaweedfs":
            find_weed()
    except (SetupError, ToolMissing) as problem:
        pytest.skip(str(problem))
    with Warden(lease_s=60, log=home / "warden.log") as warden, start(STACKS[name], warden, home / "stack") as stack:
        yield stack


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from started("moto", tmp_path_factory.mktemp("moto"))


@pytest.fixture(scope="module")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from started("seaweedfs", tmp_path_factory.mktemp("seaweedfs"))


class TestMotoConforms(CatalogConformance):
    @pytest.fixture
    def served(self, moto: Stack) -> Served:
        return Served(
            moto.pyiceberg_properties(direct=False), {**moto.capabilities(), "unknown_namespace_is_404": True}
        )


class TestSeaweedFSConforms(CatalogConformance):
    @pytest.fixture
    def served(self, seaweedfs: Stack) -> Served:
        differs = {"unknown_namespace_is_404": False}
        return Served(seaweedfs.pyiceberg_properties(direct=False), {**seaweedfs.capabilities(), **differs})


@pytest.mark.parametrize("name", ["seaweedfs", "moto"])
def test_what_a_stack_is_said_to_show_is_what_it_shows(name: str, request: pytest.FixtureRequest) -> None:
    """Everything that the stack's module states is measured, and found to be so; the probe leaves no namespace."""
    stack: Stack = request.getfixturevalue(name)
    measured = probe(stack.pyiceberg_properties(direct=True), stack.directory)
    assert measured == CAPABILITIES[name]
    assert measured.keys() == MEANINGS.keys()
    assert stack.measure() == measured
    namespaces = load_catalog("x", **stack.pyiceberg_properties(direct=True)).list_namespaces()
    assert not any(levels[0].startswith("probe_") for levels in namespaces)


def test_a_storage_elsewhere_is_not_asked_whether_it_outlives_a_kill(moto: Stack) -> None:
    """Nobody here can kill it, and its files cannot be looked through; everything else is measured."""
    measured = probe(moto.pyiceberg_properties(direct=True), None)
    assert measured.items() <= CAPABILITIES["moto"].items()
    assert MEANINGS.keys() - measured.keys() == {"survives_kill"}


def test_the_stacks_can_be_told_apart_by_what_they_show() -> None:
    """What one lacks another shows, so each measure has been seen to say both; two are the same everywhere so far."""
    one, other = CAPABILITIES["seaweedfs"], CAPABILITIES["moto"]
    assert {name for name in MEANINGS if one[name] == other[name]} == {
        "s3_conditional_put",
        "stale_commit_fails",
        "vends_credentials",
        "views",
    }


def test_what_could_not_be_undone_is_not_done(seaweedfs: Stack) -> None:
    """Dropping a table to make it anew is refused where a drop takes the files; the table is as it was."""
    seaweedfs.measure()
    catalog = load_catalog("x", **seaweedfs.pyiceberg_properties(direct=True))
    catalog.create_namespace("kept")
    table = catalog.create_table("kept.events", ROWS.schema)
    table.append(ROWS)
    env = cast(Env, SimpleNamespace(stack=seaweedfs, table="kept.events"))
    with pytest.raises(NotPossible, match="could not be undone: this stack lacks drop_keeps_files, register_table"):
        ForeignWriter(act="recreate").inject(env, "step")
    assert catalog.load_table("kept.events").metadata.table_uuid == table.metadata.table_uuid
    assert len(catalog.load_table("kept.events").scan().to_arrow()) == 3


def test_a_stack_that_keeps_no_table_is_no_stack(moto: Stack) -> None:
    """A catalog that fails is a failure of the harness, in one sentence; it is not a stack that lacks everything."""
    moto.kill("catalog")
    try:
        with pytest.raises(ChaosError, match="the moto stack does not keep a table: "):
            moto.measure()
    finally:
        moto.restart("catalog")


class TestFacade:
    @pytest.fixture
    def http(self, moto: Stack) -> Http:
        return Http(Served(moto.pyiceberg_properties(direct=True), {}))

    @pytest.fixture
    def ns(self, http: Http) -> str:
        name = f"run_{uuid.uuid4().hex[:8]}"
        assert http("POST", "namespaces", {"namespace": [name]}).status_code == 200
        return name

    def table(self, http: Http, ns: str, name: str, **more: object) -> requests.Response:
        schema = {
            "type": "struct",
            "schema-id": 0,
            "fields": [{"id": 1, "name": "id", "required": False, "type": "string"}],
        }
        return http("POST", f"namespaces/{ns}/tables", {"name": name, "schema": schema, **more})

    def test_it_says_what_it_has(self, http: Http) -> None:
        """Each advertised endpoint is served, in the specification's notation."""
        listed = http.config["endpoints"]
        assert "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}" in listed
        assert "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}" in listed
        assert len(listed) == sum(one.advertised for one in ENDPOINTS)
        assert not any("view" in one for one in listed)

    def test_it_says_where_the_objects_are(self, http: Http, moto: Stack) -> None:
        """A client that names no object store is led to the direct one, or past the gateway to the faulted one; not to keys."""
        assert http.config["defaults"]["s3.endpoint"] == moto.addresses.s3_direct
        faulted = Http(Served(moto.pyiceberg_properties(direct=False), {})).config["defaults"]
        assert faulted["s3.endpoint"] == moto.addresses.s3_faulted
        assert faulted.keys() == {"s3.endpoint", "s3.path-style-access", "s3.region", "client.region"}

    def test_heads(self, http: Http, ns: str) -> None:
        """HEAD answers 204 or 404, without a body."""
        self.table(http, ns, "t")
        paths = (f"namespaces/{ns}", f"namespaces/{ns}/tables/t", "namespaces/no", f"namespaces/{ns}/tables/no")
        answers = [http("HEAD", path) for path in paths]
        assert [answer.status_code for answer in answers] == [204, 204, 404, 404]
        assert not any(answer.content for answer in answers)

    def test_lists_come_in_pages(self, http: Http, ns: str) -> None:
        """With a page size a list comes in pages, in order, each name once; without one, at once."""
        for name in ("c", "a", "b"):
            assert self.table(http, ns, name).status_code == 200
        found, token, pages = [], "", 0
        while token is not None:
            answer = http("GET", f"namespaces/{ns}/tables", pageToken=token, pageSize="2").json()
            found += [one["name"] for one in answer["identifiers"]]
            token, pages = answer.get("next-page-token"), pages + 1
        assert (found, pages) == (["a", "b", "c"], 2)
        whole = http("GET", f"namespaces/{ns}/tables").json()
        assert len(whole["identifiers"]) == 3
        assert "next-page-token" not in whole
        assert error(http("GET", f"namespaces/{ns}/tables", pageToken="", pageSize="x")) == (400, "BadRequestException")

    def test_names_with_dots_and_slashes_are_one_name(self, http: Http, ns: str) -> None:
        """A dot or a slash inside a level is not a separator, and nested namespaces are listed under their parent."""
        for levels in ([f"{ns}.x"], [ns, "x"], [ns, "x", "y"]):
            assert http("POST", "namespaces", {"namespace": levels}).status_code == 200
        assert self.table(http, f"{ns}.x", "ta.b%le").status_code == 200
        assert self.table(http, f"{ns}%1Fx", "ta/ble").status_code == 200
        assert http("GET", f"namespaces/{ns}.x/tables").json()["identifiers"] == [
            {"namespace": [f"{ns}.x"], "name": "ta.b%le"}
        ]
        assert http("GET", f"namespaces/{ns}%1Fx/tables/ta%2Fble").status_code == 200
        assert http("GET", "namespaces", parent=ns).json()["namespaces"] == [[ns, "x"]]
        assert [f"{ns}.x"] in http("GET", "namespaces").json()["namespaces"]
        assert error(http("DELETE", f"namespaces/{ns}")) == (409, "NamespaceNotEmptyException")

    def test_messages_name_what_they_are_about(self, http: Http, ns: str) -> None:
        """The wording that compatibility kits compare."""
        self.table(http, ns, "t")
        other = {"source": {"namespace": [ns], "name": "t"}, "destination": {"namespace": ["no"], "name": "t"}}
        words = [
            http("GET", f"namespaces/{ns}/tables/no"),
            self.table(http, ns, "t"),
            http("POST", "namespaces", {"namespace": [ns]}),
            http("POST", "tables/rename", other),
            http("GET", f"namespaces/{ns}/views/v"),
        ]
        assert [one.json()["error"]["message"] for one in words] == [
            f"Table does not exist: {ns}.no",
            f"Table already exists: {ns}.t",
            f"Namespace already exists: {ns}",
            "Namespace does not exist: no",
            f"View does not exist: {ns}.v",
        ]

    def test_views_are_absent_by_the_book(self, http: Http, ns: str) -> None:
        """None is listed, none is found, none can be made."""
        assert http("GET", f"namespaces/{ns}/views").json() == {"identifiers": []}
        assert http("HEAD", f"namespaces/{ns}/views/v").status_code == 404
        assert error(http("DELETE", f"namespaces/{ns}/views/v")) == (404, "NoSuchViewException")
        assert error(http("POST", f"namespaces/{ns}/views", {})) == (406, "UnsupportedOperationException")
        assert error(http("POST", f"namespaces/{ns}/tables/t/plan", {})) == (406, "UnsupportedOperationException")

    @pytest.mark.parametrize(
        ("verb", "path", "body", "expected"),
        [
            ("GET", "nowhere", None, (404, "NotFoundException")),
            ("DELETE", "namespaces", None, (405, "MethodNotAllowedException")),
            ("POST", "namespaces", {"namespace": "text"}, (400, "BadRequestException")),
            ("POST", "namespaces", {"namespace": []}, (400, "BadRequestException")),
            ("POST", "namespaces", ["list"], (400, "BadRequestException")),
            ("POST", "namespaces/{ns}/tables", {"name": "t"}, (400, "BadRequestException")),
            ("POST", "namespaces/{ns}/register", {"name": "t", "metadata-location": "s3://analytics/no"}, (400, "BadRequestException")),
            ("POST", "namespaces/{ns}/register", {"name": "t", "metadata-location": "file:///etc/passwd"}, (400, "BadRequestException")),
            ("POST", "namespaces/{ns}/properties", {"removals": ["a"], "updates": {"a": "b"}}, (422, "UnprocessableEntityException")),
            ("POST", "namespaces/{ns}/tables/no", {"requirements": [], "updates": []}, (404, "NoSuchTableException")),
            ("POST", "namespaces/{ns}/tables/no", {"requirements": [{"type": "assert-create"}], "updates": [{"action": "set-properties", "updates": {}}]}, (400, "BadRequestException")),
            ("POST", "namespaces/{ns}/tables", {"name": "t", "schema": {"type": "struct", "fields": []}, "properties": {"format-version": "9"}}, (400, "BadRequestException")),
            ("POST", "namespaces/{ns}/tables", {"name": "t", "schema": {"type": "struct", "fields": []}, "location": "file:/etc/t"}, (400, "BadRequestException")),
            ("POST", "namespaces", {"namespace": ["x"], "properties": {"n": 1}}, (400, "BadRequestException")),
            ("POST", "tables/rename", {"source": {}}, (400, "BadRequestException")),
        ],
    )  # fmt: skip
    def test_a_bad_request_is_told_apart(
        self, http: Http, verb: str, path: str, body: object, expected: tuple[int, str]
    ) -> None:
        """Each mistake has the specification's status and type."""
        http("POST", "namespaces", {"namespace": ["bad"]})
        assert error(http(verb, path.format(ns="bad"), body)) == expected

    @pytest.mark.parametrize(
        ("requirement", "words"),
        [
            (
                {"type": "assert-current-schema-id", "current-schema-id": 9},
                "current schema changed: expected id 9 != 0",
            ),
            (
                {"type": "assert-default-spec-id", "default-spec-id": 9},
                "default partition spec changed: expected id 9 != 0",
            ),
            (
                {"type": "assert-default-sort-order-id", "default-sort-order-id": 9},
                "default sort order changed: expected id 9 != 0",
            ),
            (
                {"type": "assert-last-assigned-field-id", "last-assigned-field-id": 9},
                "last assigned field id changed: expected id 9 != 1",
            ),
            ({"type": "assert-table-uuid", "uuid": str(uuid.UUID(int=9))}, "UUID does not match: expected 0"),
            ({"type": "assert-create"}, "table already exists"),
        ],
    )
    def test_a_broken_requirement_is_named(self, http: Http, requirement: dict[str, object], words: str) -> None:
        """409 in the words of Iceberg's own catalogs."""
        http("POST", "namespaces", {"namespace": ["requirements"]})
        self.table(http, "requirements", "t")
        answer = http("POST", "namespaces/requirements/tables/t", {"requirements": [requirement], "updates": []})
        assert error(answer) == (409, "CommitFailedException")
        assert answer.json()["error"]["message"].startswith(f"Requirement failed: {words}")

    def test_a_snapshot_id_lands_once(self, http: Http, moto: Stack, ns: str) -> None:
        """A snapshot that is there already is a conflict, also when it is rebased: the client looks and finds it."""
        self.table(http, ns, "t")
        catalog = load_catalog("x", **moto.pyiceberg_properties(direct=True))
        commit, path = append_updates(catalog.load_table(f"{ns}.t")), f"namespaces/{ns}/tables/t"
        assert http("POST", path, commit).status_code == 200
        again = append_updates(catalog.load_table(f"{ns}.t"))
        again["updates"][0]["snapshot"]["snapshot-id"] = commit["updates"][1]["snapshot-id"]
        assert error(http("POST", path, again)) == (409, "CommitFailedException")

    def test_a_locked_database_is_503_and_nothing_is_applied(self, http: Http, moto: Stack, ns: str) -> None:
        """While somebody holds the database a commit is 503 with Retry-After; afterwards the same commit lands."""
        self.table(http, ns, "t")
        catalog = load_catalog("x", **moto.pyiceberg_properties(direct=True))
        commit, path = append_updates(catalog.load_table(f"{ns}.t")), f"namespaces/{ns}/tables/t"
        holder = sqlite3.connect(moto.directory / "storage" / "catalog.db", isolation_level=None)
        try:
            holder.execute("BEGIN IMMEDIATE")
            answer = http("POST", path, commit)
        finally:
            holder.close()
        assert error(answer) == (503, "ServiceUnavailableException")
        assert answer.headers["Retry-After"] == "1"
        assert http("POST", path, commit).status_code == 200

    def test_purge_deletes_the_files(self, moto: Stack, ns: str) -> None:
        """Dropping with purge removes data and metadata."""
        catalog = load_catalog("x", **moto.pyiceberg_properties(direct=True))
        table = catalog.create_table(f"{ns}.t", ROWS.schema)
        table.append(ROWS)
        data, metadata = next(iter(table.scan().plan_files())).file.file_path, table.metadata_location
        catalog.purge_table(f"{ns}.t")
        assert not table.io.new_input(data).exists()
        assert not table.io.new_input(metadata).exists()

    def test_tokens(self, http: Http, moto: Stack) -> None:
        """Basic authentication and token exchange give tokens too; a wrong secret or a made-up token gives none."""
        at = moto.addresses
        url, grant = f"{at.catalog_direct}/v1/oauth/tokens", {"grant_type": "client_credentials"}
        basic = requests.post(url, data=grant, auth=(at.access_key, at.secret_key), timeout=5)
        assert basic.status_code == 200
        exchange = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": basic.json()["access_token"],
        }
        assert requests.post(url, data=exchange, timeout=5).status_code == 200
        wrong = requests.post(url, data=grant, auth=(at.access_key, "guess"), timeout=5)
        assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
        other = requests.post(url, data={"grant_type": "password"}, timeout=5)
        assert (other.status_code, other.json()["error"]) == (400, "unsupported_grant_type")
        http.session.headers["Authorization"] = "Bearer 99999999999.00"
        assert error(http("GET", "namespaces")) == (401, "NotAuthorizedException")

    def test_a_killed_catalog_keeps_tables_and_tokens(self, http: Http, moto: Stack, ns: str) -> None:
        """The catalog survives kill -9, and a client goes on with the token it has."""
        self.table(http, ns, "t")
        moto.kill("catalog")
        moto.restart("catalog")
        assert http("GET", f"namespaces/{ns}/tables/t").status_code == 200

    def test_a_dead_object_store_is_503(self, http: Http, moto: Stack, ns: str) -> None:
        """A table is not called unknown because the store is silent; moto forgets everything when it is killed."""
        self.table(http, ns, "t")
        moto.kill("moto")
        answer = http("GET", f"namespaces/{ns}/tables/t")
        moto.restart("moto")
        assert error(answer) == (503, "ServiceUnavailableException")
        assert error(http("GET", f"namespaces/{ns}/tables/t")) == (500, "ServiceFailureException")
        assert self.table(http, ns, "another").status_code == 200

    def test_a_server_that_this_stack_does_not_have_cannot_be_killed(self, moto: Stack) -> None:
        """So that a step which asks for it is void, with the servers there are."""
        with pytest.raises(NotPossible, match="moto stack has no server seaweedfs; it has moto, catalog"):
            moto.kill("seaweedfs")

    def test_only_our_key_is_taken(self, moto: Stack) -> None:
        """The object store refuses requests that are unsigned or name another key."""
        url = f"{moto.addresses.s3_direct}/{moto.addresses.bucket}"
        foreign = {"Authorization": "AWS4-HMAC-SHA256 Credential=AKIAOTHER/20000101/us-east-1/s3/aws4_request"}
        for headers in ({}, foreign):
            answer = requests.get(url, headers=headers, timeout=5)
            assert (answer.status_code, "InvalidAccessKeyId" in answer.text) == (403, True)

    def test_it_is_private(self, moto: Stack) -> None:
        """Both processes listen on loopback only, and nobody else can read their configuration."""
        assert stat.S_IMODE((moto.directory / "storage" / "facade.json").stat().st_mode) == 0o600
        addresses = [address for child in moto.children.values() for address in listening(child.pid)]
        assert addresses
        assert all(one.startswith(("0100007F:", "00000000000000000000000001000000:")) for one in addresses)
