"""Commits of the facade: several tables at once, once per idempotency key, and through `kill -9`."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import requests
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import NullOrder, SortField, SortOrder
from pyiceberg.table.update import AddSortOrderUpdate, SetDefaultSortOrderUpdate, SetPropertiesUpdate
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import NestedField, StringType
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chaos.stack import Stack
from chaos.stack.facade.commits import Change, Committer, _renumbered, _version
from chaos.stack.facade.errors import Unprocessable
from chaos.stack.facade.replies import LIFETIME_S, Replies, fingerprint
from tests.chaos.catalog_conformance import Http, Served, append_updates, error
from tests.chaos.test_moto import started

PATIENCE_S = 20
SCHEMA = {
    "type": "struct",
    "schema-id": 0,
    "fields": [{"id": 1, "name": "id", "required": False, "type": "string"}],
}


def order(order_id: int, nulls: NullOrder) -> SortOrder:
    return SortOrder(SortField(source_id=1, transform=IdentityTransform(), null_order=nulls), order_id=order_id)


class TestWithoutServer:
    def test_sort_orders_are_numbered_by_the_catalog(self) -> None:
        """Another order with a taken id gets the next one, and becomes the default when that was asked for."""
        schema = Schema(NestedField(1, "id", StringType(), required=False))
        base = new_table_metadata(schema, UNPARTITIONED_PARTITION_SPEC, order(1, NullOrder.NULLS_FIRST), "s3://b/t")
        mine = order(1, NullOrder.NULLS_LAST)
        add = AddSortOrderUpdate.model_validate({"action": "add-sort-order", "sort-order": mine})
        default = SetDefaultSortOrderUpdate.model_validate({"action": "set-default-sort-order", "sort-order-id": 1})

        added, made_default = _renumbered((add, default), base)

        assert isinstance(added, AddSortOrderUpdate)
        assert isinstance(made_default, SetDefaultSortOrderUpdate)
        assert (added.sort_order.order_id, added.sort_order.fields) == (2, mine.fields)
        assert made_default.sort_order_id == 2
        same = add.model_copy(update={"sort_order": base.sort_orders[0]})
        assert _renumbered((same, default), base) == (same, default)

    @pytest.mark.parametrize(("name", "number"), [("00007-ab.metadata.json", 7), ("v1.metadata.json", -1), ("x-y", -1)])
    def test_a_metadata_file_has_its_number_in_its_name(self, name: str, number: int) -> None:
        """A registered file may have any name."""
        assert _version(f"s3://bucket/t/metadata/{name}") == number


class Interrupted(Exception):
    """Stands for whatever may go wrong before a commit is one."""


class Overtaken:
    """A requirement that holds, while another client commits."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile = meanwhile

    def validate(self, _: object) -> None:
        self._meanwhile()


class TestAtOnce:
    """Pointers of several tables move together, on the local disk."""

    @pytest.fixture
    def sql(self, tmp_path: Path) -> Iterator[SqlCatalog]:
        catalog = SqlCatalog("local", uri=f"sqlite:///{tmp_path / 'catalog.db'}", warehouse=f"file://{tmp_path}")
        catalog.create_namespace("ns")
        for table in ("a", "b"):
            catalog.create_table(f"ns.{table}", Schema(NestedField(1, "id", StringType(), required=False)))
        yield catalog
        catalog.close()

    @staticmethod
    def change(table: str, owner: str, *requirements: object) -> Change:
        update = SetPropertiesUpdate.model_validate({"action": "set-properties", "updates": {"owner": owner}})
        return Change(("ns", table), cast(Any, requirements), [update])

    @staticmethod
    def owners(sql: SqlCatalog) -> list[str | None]:
        return [sql.load_table(f"ns.{table}").properties.get("owner") for table in ("a", "b")]

    @staticmethod
    def files(tmp_path: Path) -> int:
        return len(list(tmp_path.rglob("*.metadata.json")))

    def test_both_or_none(self, sql: SqlCatalog, tmp_path: Path) -> None:
        """What fails inside the transaction takes all of it back, files too; without a failure both are changed."""

        def fail(*_: object) -> None:
            raise Interrupted

        both = [self.change("a", "ann"), self.change("b", "bob")]
        with pytest.raises(Interrupted):
            Committer(sql, {}).commit(both, fail)
        assert (self.owners(sql), self.files(tmp_path)) == ([None, None], 2)
        Committer(sql, {}).commit(both)
        assert (self.owners(sql), self.files(tmp_path)) == (["ann", "bob"], 4)

    def test_a_commit_that_came_first_on_one_of_them(self, sql: SqlCatalog, tmp_path: Path) -> None:
        """Another client commits on the second table after it was read: the first stays as it was."""
        other = Overtaken(lambda: Committer(sql, {}).commit([self.change("b", "eve")]))
        with pytest.raises(CommitFailedException, match=r"another commit came first: ns\.b"):
            Committer(sql, {}).commit([self.change("a", "ann"), self.change("b", "bob", other)])
        assert (self.owners(sql), self.files(tmp_path)) == ([None, "eve"], 3)

    def test_a_commit_that_changes_nothing_writes_nothing(self, sql: SqlCatalog, tmp_path: Path) -> None:
        """It is answered with what is there."""
        location = sql.load_table("ns.a").metadata_location
        [response] = Committer(sql, {}).commit([Change(("ns", "a"), [], [])])
        assert (response.metadata_location, self.files(tmp_path)) == (location, 2)


class TestAnswersKept:
    @pytest.fixture
    def now(self) -> list[float]:
        return [1000.0]

    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[Engine]:
        engine = create_engine(f"sqlite:///{tmp_path / 'catalog.db'}")
        yield engine
        engine.dispose()

    def test_the_first_answer_stays(self, engine: Engine, now: list[float]) -> None:
        """Another answer to the same request does not replace it; a process that is started anew knows it too."""
        replies = Replies(engine, lambda: now[0])
        assert replies.find("k", "r") is None
        replies.keep("k", "r", 200, "first")
        replies.keep("k", "r", 409, "second")
        assert Replies(engine, lambda: now[0]).find("k", "r") == (200, "first")
        with pytest.raises(Unprocessable, match="k was used for another request"):
            replies.find("k", "other")

    def test_it_is_forgotten_in_the_end(self, engine: Engine, now: list[float]) -> None:
        """After its lifetime the key is free again, within a transaction as well."""
        replies = Replies(engine, lambda: now[0])
        replies.keep("k", "r", 200, "first")
        now[0] += LIFETIME_S
        assert replies.find("k", "other") is None
        with Session(engine) as session:
            replies.keep("k", "other", 200, "second", session)
            session.commit()
        assert replies.find("k", "other") == (200, "second")

    def test_in_a_transaction_only_one_is_the_first(self, engine: Engine, now: list[float]) -> None:
        """The second fails, and its transaction with it; what is rolled back was never answered."""
        replies = Replies(engine, lambda: now[0])
        with Session(engine) as session:
            replies.keep("k", "r", 200, "lost", session)
            session.rollback()
        assert replies.find("k", "r") is None
        replies.keep("k", "r", 200, "first")
        with Session(engine) as session, pytest.raises(IntegrityError):
            replies.keep("k", "r", 200, "second", session)

    def test_what_makes_a_request_the_same(self) -> None:
        """Verb, target and body, and where each ends."""
        seen = {
            fingerprint(*request) for request in (("POST", b"/a", b"b"), ("POST", b"/ab", b""), ("DELETE", b"/a", b"b"))
        }
        assert len(seen) == 3


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from started("moto", tmp_path_factory.mktemp("moto"))


@pytest.fixture
def http(moto: Stack) -> Http:
    return Http(Served(moto.pyiceberg_properties(direct=True), {}))


@pytest.fixture
def ns(http: Http) -> str:
    name = f"run_{uuid.uuid4().hex[:8]}"
    assert http("POST", "namespaces", {"namespace": [name]}).status_code == 200
    for table in ("a", "b"):
        assert http("POST", f"namespaces/{name}/tables", {"name": table, "schema": SCHEMA}).status_code == 200
    return name


def snapshots(http: Http, ns: str, *tables: str) -> list[int]:
    """How many snapshots each table has."""
    answers = [http("GET", f"namespaces/{ns}/tables/{table}").json() for table in tables]
    return [len(one["metadata"].get("snapshots", [])) for one in answers]


def commit(moto: Stack, ns: str, table: str) -> dict[str, Any]:
    """The commit of one more snapshot on the table's head."""
    return append_updates(load_catalog("x", **moto.pyiceberg_properties(direct=True)).load_table(f"{ns}.{table}"))


def named(ns: str, table: str, change: dict[str, Any]) -> dict[str, Any]:
    return {"identifier": {"namespace": [ns], "name": table}, **change}


@pytest.mark.integration
class TestSeveralTables:
    def test_all_are_committed(self, http: Http, moto: Stack, ns: str) -> None:
        """One request, 204, a snapshot more on each."""
        changes = [named(ns, table, commit(moto, ns, table)) for table in ("a", "b")]
        assert http("POST", "transactions/commit", {"table-changes": changes}).status_code == 204
        assert snapshots(http, ns, "a", "b") == [1, 1]

    def test_none_is_when_one_cannot_be(self, http: Http, moto: Stack, ns: str) -> None:
        """A requirement that does not hold on the second table leaves the first as it was, without a file more."""
        first, second = commit(moto, ns, "a"), commit(moto, ns, "b")
        assert http("POST", f"namespaces/{ns}/tables/b", commit(moto, ns, "b")).status_code == 200
        answer = http("POST", "transactions/commit", {"table-changes": [named(ns, "a", first), named(ns, "b", second)]})
        assert error(answer) == (409, "CommitFailedException")
        assert snapshots(http, ns, "a", "b") == [0, 1]

    def test_a_table_can_be_made_in_it(self, http: Http, moto: Stack, ns: str) -> None:
        """A staged table exists when the transaction commits."""
        staged = http("POST", f"namespaces/{ns}/tables", {"name": "c", "schema": SCHEMA, "stage-create": True}).json()
        metadata = staged["metadata"]
        updates = [
            {"action": "assign-uuid", "uuid": metadata["table-uuid"]},
            {"action": "upgrade-format-version", "format-version": 2},
            {"action": "add-schema", "schema": metadata["schemas"][0]},
            {"action": "set-current-schema", "schema-id": -1},
            {"action": "add-spec", "spec": {"spec-id": 0, "fields": []}},
            {"action": "set-default-spec", "spec-id": -1},
            {"action": "add-sort-order", "sort-order": {"order-id": 0, "fields": []}},
            {"action": "set-default-sort-order", "sort-order-id": -1},
            {"action": "set-location", "location": metadata["location"]},
        ]
        creation = {"requirements": [{"type": "assert-create"}], "updates": updates}
        changes = [named(ns, "c", creation), named(ns, "a", commit(moto, ns, "a"))]
        assert http("POST", "transactions/commit", {"table-changes": changes}).status_code == 204
        assert snapshots(http, ns, "a", "c") == [1, 0]
        assert error(http("POST", "transactions/commit", {"table-changes": changes[:1]})) == (
            409,
            "CommitFailedException",
        )

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ([], (400, "BadRequestException")),
            ({}, (400, "BadRequestException")),
            ([{"requirements": [], "updates": []}], (400, "BadRequestException")),
            ([{"identifier": {"namespace": ["no"], "name": "t"}}], (404, "NoSuchTableException")),
            ([{"identifier": {"namespace": ["{ns}"], "name": "a"}}] * 2, (400, "BadRequestException")),
        ],
    )
    def test_what_makes_no_sense_is_told(self, http: Http, ns: str, changes: object, expected: tuple[int, str]) -> None:
        """Nothing, no name, an unknown table, a table twice."""
        body = json.loads(json.dumps({"table-changes": changes}).replace("{ns}", ns))
        assert error(http("POST", "transactions/commit", body)) == expected


@pytest.mark.integration
class TestIdempotency:
    def keyed(self, http: Http, verb: str, path: str, body: object, key: str) -> requests.Response:
        headers = {"Idempotency-Key": key}
        return http.session.request(verb, f"{http.root}/{path}", json=body, headers=headers, timeout=10)

    def test_it_is_said(self, http: Http) -> None:
        """In the configuration, as a duration."""
        assert http.config["idempotency-key-lifetime"] == "PT30M"

    def test_a_commit_sent_again_gets_its_first_answer(self, http: Http, moto: Stack, ns: str) -> None:
        """Three times the same request: three times 200 with the same metadata, and one snapshot."""
        change, key = commit(moto, ns, "a"), str(uuid.uuid4())
        answers = [self.keyed(http, "POST", f"namespaces/{ns}/tables/a", change, key) for _ in range(3)]
        assert [one.status_code for one in answers] == [200] * 3
        assert len({one.text for one in answers}) == 1
        assert snapshots(http, ns, "a") == [1]
        assert error(self.keyed(http, "POST", f"namespaces/{ns}/tables/a", change, str(uuid.uuid4())))[0] == 409

    def test_at_once_too(self, moto: Stack, http: Http, ns: str) -> None:
        """Eight clients send one request with one key at the same moment: eight times 200, one snapshot."""
        change, key = commit(moto, ns, "a"), str(uuid.uuid4())
        clients = [Http(Served(moto.pyiceberg_properties(direct=True), {})) for _ in range(8)]
        gate, statuses = threading.Barrier(len(clients), timeout=PATIENCE_S), []

        def send(client: Http) -> None:
            gate.wait()
            statuses.append(self.keyed(client, "POST", f"namespaces/{ns}/tables/a", change, key).status_code)

        threads = [threading.Thread(target=send, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 8
        assert snapshots(http, ns, "a") == [1]

    def test_a_conflict_stays_one(self, http: Http, moto: Stack, ns: str) -> None:
        """A 409 is final: the same request is refused again, also when it would be possible now."""
        path, body, key = f"namespaces/{ns}/tables", {"name": "a", "schema": SCHEMA}, str(uuid.uuid4())
        assert error(self.keyed(http, "POST", path, body, key)) == (409, "AlreadyExistsException")
        assert http("DELETE", f"{path}/a").status_code == 204
        assert error(self.keyed(http, "POST", path, body, key)) == (409, "AlreadyExistsException")
        assert self.keyed(http, "POST", path, body, str(uuid.uuid4())).status_code == 200

    def test_a_drop_sent_again_is_done_once(self, http: Http, ns: str) -> None:
        """Not 404: it was this request that dropped the table; a transaction has an answer without a body too."""
        key = str(uuid.uuid4())
        answers = [self.keyed(http, "DELETE", f"namespaces/{ns}/tables/a", None, key) for _ in range(2)]
        assert [one.status_code for one in answers] == [204, 204]

    def test_a_failure_of_the_server_is_not_kept(self, http: Http, moto: Stack, ns: str) -> None:
        """503 while the database is held; the same key lands afterwards."""
        change, key = commit(moto, ns, "a"), str(uuid.uuid4())
        with held_database(moto):
            answer = self.keyed(http, "POST", f"namespaces/{ns}/tables/a", change, key)
        assert error(answer) == (503, "ServiceUnavailableException")
        assert self.keyed(http, "POST", f"namespaces/{ns}/tables/a", change, key).status_code == 200

    def test_a_key_is_for_one_request(self, http: Http, moto: Stack, ns: str) -> None:
        """Another request with it is 422, and what is no UUID is 400."""
        change, key = commit(moto, ns, "a"), str(uuid.uuid4())
        assert self.keyed(http, "POST", f"namespaces/{ns}/tables/a", change, key).status_code == 200
        other = self.keyed(http, "POST", f"namespaces/{ns}/tables/b", change, key)
        assert error(other) == (422, "UnprocessableEntityException")
        assert error(self.keyed(http, "POST", f"namespaces/{ns}/tables/b", change, "x")) == (400, "BadRequestException")

    def test_it_outlives_the_catalog(self, http: Http, moto: Stack, ns: str) -> None:
        """The answer is in the commit's own transaction, so a catalog that is killed right after still knows it."""
        change, key = commit(moto, ns, "a"), str(uuid.uuid4())
        first = self.keyed(http, "POST", f"namespaces/{ns}/tables/a", change, key)
        moto.kill("catalog")
        moto.restart("catalog")
        again = self.keyed(http, "POST", f"namespaces/{ns}/tables/a", change, key)
        assert (again.status_code, again.text) == (200, first.text)


@pytest.mark.integration
class TestKilled:
    """The catalog is killed in the middle of a commit: afterwards it is applied or it is not, and either can be seen."""

    def test_before_the_pointer_moved(self, http: Http, moto: Stack, ns: str) -> None:
        """Its metadata is written and the database held: after kill -9 nothing is committed, and the same commit lands."""
        change, path = commit(moto, ns, "a"), f"namespaces/{ns}/tables/a"
        with held_database(moto):
            sending = in_background(lambda: http("POST", path, change))
            assert until(lambda: metadata_files(moto, ns, "a") == 2)
            moto.kill("catalog")
            sending.join()
        moto.restart("catalog")
        assert snapshots(http, ns, "a") == [0]
        assert http("POST", path, change).status_code == 200
        assert snapshots(http, ns, "a") == [1]

    def test_after_it(self, http: Http, moto: Stack, ns: str) -> None:
        """As soon as a commit is seen it survives kill -9, and sending it again is a conflict, not a second snapshot."""
        change, path = commit(moto, ns, "a"), f"namespaces/{ns}/tables/a"
        assert http("POST", path, change).status_code == 200
        moto.kill("catalog")
        moto.restart("catalog")
        assert snapshots(http, ns, "a") == [1]
        assert error(http("POST", path, change)) == (409, "CommitFailedException")

    def test_between_two_tables(self, http: Http, moto: Stack, ns: str) -> None:
        """A transaction over two tables that is killed on its way leaves both as they were."""
        changes = [named(ns, table, commit(moto, ns, table)) for table in ("a", "b")]
        with held_database(moto):
            sending = in_background(lambda: http("POST", "transactions/commit", {"table-changes": changes}))
            assert until(lambda: metadata_files(moto, ns, "b") == 2)
            moto.kill("catalog")
            sending.join()
        moto.restart("catalog")
        assert snapshots(http, ns, "a", "b") == [0, 0]
        assert http("POST", "transactions/commit", {"table-changes": changes}).status_code == 204


@pytest.mark.integration
def test_what_is_not_committed_leaves_no_file(http: Http, moto: Stack, ns: str) -> None:
    """A commit that was refused after its metadata was written takes that away again."""
    with held_database(moto):
        assert http("POST", f"namespaces/{ns}/tables/a", commit(moto, ns, "a")).status_code == 503
    assert metadata_files(moto, ns, "a") == 1


@pytest.mark.integration
def test_keys_for_a_table_are_given_on_request(http: Http, moto: Stack, ns: str) -> None:
    """The credentials endpoint answers with the stack's keys for the table's location; the endpoint is not among them."""
    answer = http("GET", f"namespaces/{ns}/tables/a/credentials").json()
    [given] = answer["storage-credentials"]
    assert given["prefix"] == f"s3://analytics/{ns}/a"
    assert given["config"]["s3.secret-access-key"] == moto.addresses.secret_key
    assert "s3.endpoint" not in given["config"]
    assert error(http("GET", f"namespaces/{ns}/tables/no/credentials")) == (404, "NoSuchTableException")


@contextmanager
def held_database(moto: Stack) -> Iterator[None]:
    """Hold the catalog's database, as a backup or another writer would."""
    holder = sqlite3.connect(moto.directory / "storage" / "catalog.db", isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        yield
    finally:
        holder.close()


def in_background(send: Callable[[], object]) -> threading.Thread:
    """Send a request whose connection will be cut; it may be answered 503 first, when the machine is slow."""

    def quietly() -> None:
        with contextlib.suppress(requests.RequestException):
            send()

    thread = threading.Thread(target=quietly)
    thread.start()
    return thread


def metadata_files(moto: Stack, ns: str, table: str) -> int:
    """How many metadata files of a table are in the object store."""
    at = moto.addresses
    scope = f"AWS4-HMAC-SHA256 Credential={at.access_key}/20000101/{at.region}/s3/aws4_request"
    query = {"list-type": "2", "prefix": f"{ns}/{table}/metadata/"}
    answer = requests.get(f"{at.s3_direct}/{at.bucket}", params=query, headers={"Authorization": scope}, timeout=5)
    return answer.text.count(".metadata.json</Key>")


def until(holds: Callable[[], bool]) -> bool:
    """Ask until something holds, or patience ends."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if holds():
            return True
    return False
