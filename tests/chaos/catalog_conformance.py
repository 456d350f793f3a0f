"""What an Iceberg REST catalog does, asked through pyiceberg and over HTTP: one suite for every stack.

A test module subclasses :class:`CatalogConformance` and gives it a ``served`` fixture. Where a stack is known to differ, its
``capabilities`` say so, and the test holds the difference: a stack that changes is noticed either way.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest
import requests
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NamespaceNotEmptyError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import LongType

ROWS = pa.table({"id": ["a", "b", "c"]})


@dataclass
class Served:
    """A running catalog: its client, and its capabilities by name."""

    properties: dict[str, str]
    capabilities: dict[str, bool]

    def catalog(self) -> RestCatalog:
        catalog = load_catalog("conformance", **self.properties)
        assert isinstance(catalog, RestCatalog)
        return catalog


class Http:
    """The catalog over plain HTTP, with a token, below the prefix that the catalog asks for."""

    def __init__(self, served: Served) -> None:
        self.session = requests.Session()
        self.session.trust_env = False
        key, _, secret = served.properties["credential"].partition(":")
        form = {"grant_type": "client_credentials", "client_id": key, "client_secret": secret, "scope": "catalog"}
        root = f"{served.properties['uri']}/v1"
        token = self.session.post(f"{root}/oauth/tokens", data=form, timeout=10).json()["access_token"]
        self.session.headers["Authorization"] = f"Bearer {token}"
        warehouse = {"warehouse": served.properties["warehouse"]}
        self.config = self.session.get(f"{root}/config", params=warehouse, timeout=10).json()
        prefix = {**self.config.get("defaults", {}), **self.config.get("overrides", {})}.get("prefix")
        self.root = f"{root}/{quote(prefix, safe='')}" if prefix else root

    def __call__(self, verb: str, path: str, body: object = None, **query: str) -> requests.Response:
        return self.session.request(verb, f"{self.root}/{path}", json=body, params=query, timeout=10)


def append_updates(table: Table) -> dict[str, Any]:
    """The commit of one more snapshot on the table's head, as it would be posted; its files are never read."""
    head, sequence = table.current_snapshot(), table.metadata.model_dump()["last-sequence-number"]
    new = uuid.uuid4().int >> 66
    snapshot: dict[str, Any] = {
        "snapshot-id": new,
        "sequence-number": sequence + 1,
        "timestamp-ms": table.metadata.last_updated_ms + 1,
        "manifest-list": f"{table.location()}/metadata/snap-{new}.avro",
        "summary": {"operation": "append"},
        "schema-id": 0,
    }
    if head is not None:
        snapshot["parent-snapshot-id"] = head.snapshot_id
    return {
        "requirements": [
            {"type": "assert-table-uuid", "uuid": str(table.metadata.table_uuid)},
            {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": head.snapshot_id if head else None},
        ],
        "updates": [
            {"action": "add-snapshot", "snapshot": snapshot},
            {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": new},
        ],
    }


def error(answer: requests.Response) -> tuple[int, str]:
    """Status and type of an answer with an Iceberg error body."""
    body = answer.json()["error"]
    assert body["code"] == answer.status_code
    assert body["message"]
    return answer.status_code, body["type"]


class CatalogConformance:
    """The suite; needs the fixture ``served``."""

    @pytest.fixture
    def catalog(self, served: Served) -> RestCatalog:
        return served.catalog()

    @pytest.fixture
    def http(self, served: Served) -> Http:
        return Http(served)

    @pytest.fixture
    def ns(self, catalog: RestCatalog) -> str:
        name = f"run_{uuid.uuid4().hex[:8]}"
        catalog.create_namespace(name)
        return name

    @pytest.fixture
    def table(self, catalog: RestCatalog, ns: str) -> Table:
        table: Table = catalog.create_table(f"{ns}.events", ROWS.schema)
        return table

    # -- namespaces

    def test_a_namespace_that_exists_is_not_made_again(self, catalog: RestCatalog, ns: str) -> None:
        """409, which pyiceberg knows."""
        with pytest.raises(NamespaceAlreadyExistsError):
            catalog.create_namespace(ns)

    def test_namespaces_are_listed_and_dropped(self, catalog: RestCatalog, ns: str) -> None:
        """A namespace is listed until it is dropped."""
        assert (ns,) in catalog.list_namespaces()
        catalog.drop_namespace(ns)
        assert (ns,) not in catalog.list_namespaces()
        with pytest.raises(NoSuchNamespaceError):
            catalog.load_namespace_properties(ns)

    def test_a_namespace_with_a_table_is_not_dropped(self, catalog: RestCatalog, table: Table) -> None:
        """409 with a type of its own."""
        with pytest.raises(NamespaceNotEmptyError):
            catalog.drop_namespace(table.name()[0])

    def test_namespace_properties_are_set_and_removed(self, catalog: RestCatalog) -> None:
        """What is set is read back, and the answer says what was missing; the namespace outlives its last property."""
        name = f"run_{uuid.uuid4().hex[:8]}"
        catalog.create_namespace(name, {"owner": "ann", "team": "blue"})
        assert catalog.load_namespace_properties(name).items() >= {"owner": "ann", "team": "blue"}.items()
        summary = catalog.update_namespace_properties(name, {"team", "absent"}, {"owner": "bob"})
        assert (summary.removed, summary.updated, summary.missing) == (["team"], ["owner"], ["absent"])
        catalog.update_namespace_properties(name, {"owner"})
        assert "owner" not in catalog.load_namespace_properties(name)

    def test_an_unknown_namespace_is_404(self, catalog: RestCatalog, http: Http, served: Served) -> None:
        """Loading it and creating a table in it is 404; so is listing its tables, where the stack sees it."""
        with pytest.raises(NoSuchNamespaceError):
            catalog.load_namespace_properties("run_nowhere")
        with pytest.raises(NoSuchNamespaceError):
            catalog.create_table("run_nowhere.events", ROWS.schema)
        status = http("GET", "namespaces/run_nowhere/tables").status_code
        assert status == (404 if served.capabilities["unknown_namespace_is_404"] else 200)

    # -- tables

    def test_a_table_that_exists_is_not_made_again(self, catalog: RestCatalog, table: Table, served: Served) -> None:
        """409; a stack without the capability answers with the table that is there."""
        if served.capabilities["create_existing_fails"]:
            with pytest.raises(TableAlreadyExistsError):
                catalog.create_table(table.name(), ROWS.schema)
        else:
            assert catalog.create_table(table.name(), ROWS.schema).metadata.table_uuid == table.metadata.table_uuid

    def test_an_unknown_table_is_404(self, catalog: RestCatalog, http: Http, ns: str) -> None:
        """Load, drop, rename and commit of a table that is not there, each with the type that clients look for."""
        with pytest.raises(NoSuchTableError):
            catalog.load_table(f"{ns}.nothing")
        with pytest.raises(NoSuchTableError):
            catalog.drop_table(f"{ns}.nothing")
        with pytest.raises(NoSuchTableError):
            catalog.rename_table(f"{ns}.nothing", f"{ns}.other")
        assert error(http("GET", f"namespaces/{ns}/tables/nothing")) == (404, "NoSuchTableException")

    def test_tables_are_listed(self, catalog: RestCatalog, table: Table, ns: str) -> None:
        """A table is listed under its namespace, and exists."""
        assert catalog.list_tables(ns) == [(ns, "events")]
        assert catalog.table_exists(table.name())
        assert not catalog.table_exists(f"{ns}.nothing")

    def test_what_is_appended_is_read(self, catalog: RestCatalog, table: Table) -> None:
        """Two appends are two snapshots, and all rows are there for a fresh reader."""
        table.append(ROWS)
        table.append(ROWS)
        fresh = catalog.load_table(table.name())
        assert (len(fresh.snapshots()), len(fresh.scan().to_arrow())) == (2, 6)

    def test_a_schema_change_is_kept(self, catalog: RestCatalog, table: Table) -> None:
        """A column added and a property set are there for a fresh reader."""
        with table.update_schema() as update:
            update.add_column("n", LongType())
        with table.transaction() as transaction:
            transaction.set_properties(owner="ann")
        fresh = catalog.load_table(table.name())
        assert [field.name for field in fresh.schema().fields] == ["id", "n"]
        assert fresh.properties["owner"] == "ann"

    def test_a_table_is_renamed_with_its_rows(self, catalog: RestCatalog, table: Table, ns: str) -> None:
        """The new name has the rows and the uuid, the old one is gone."""
        table.append(ROWS)
        catalog.rename_table(table.name(), f"{ns}.moved")
        moved = catalog.load_table(f"{ns}.moved")
        assert (moved.metadata.table_uuid, len(moved.scan().to_arrow())) == (table.metadata.table_uuid, 3)
        with pytest.raises(NoSuchTableError):
            catalog.load_table(table.name())

    def test_a_dropped_table_is_gone(self, catalog: RestCatalog, table: Table, served: Served) -> None:
        """The name is free; the files stay where the stack keeps them."""
        table.append(ROWS)
        task = next(iter(table.scan().plan_files()))
        catalog.drop_table(table.name())
        assert not catalog.table_exists(table.name())
        assert table.io.new_input(task.file.file_path).exists() is served.capabilities["drop_keeps_files"]

    def test_a_dropped_table_is_registered_again(
        self, catalog: RestCatalog, table: Table, ns: str, served: Served
    ) -> None:
        """With its metadata the table comes back: same uuid, all rows; without the capability an empty one does."""
        table.append(ROWS)
        location = catalog.load_table(table.name()).metadata_location
        with table.io.new_input(location).open() as stream:
            metadata = stream.read()
        catalog.drop_table(table.name())
        if not served.capabilities["register_table"]:
            with table.io.new_output(location).create(overwrite=True) as stream:
                stream.write(metadata)
            other = catalog.register_table(f"{ns}.back", location)
            assert (other.metadata.table_uuid == table.metadata.table_uuid, other.current_snapshot()) == (False, None)
            return
        back = catalog.register_table(f"{ns}.back", location)
        assert (back.metadata.table_uuid, len(back.scan().to_arrow())) == (table.metadata.table_uuid, 3)
        with pytest.raises(TableAlreadyExistsError):
            catalog.register_table(f"{ns}.back", location)

    def test_a_lost_metadata_object_is_noticed(self, catalog: RestCatalog, table: Table, served: Served) -> None:
        """A catalog that reads metadata.json back cannot load the table, and does not call it unknown."""
        table.append(ROWS)
        table.io.delete(catalog.load_table(table.name()).metadata_location)
        if served.capabilities["metadata_objects_matter"]:
            with pytest.raises(Exception, match="metadata cannot be read") as caught:
                catalog.load_table(table.name())
            assert not isinstance(caught.value, NoSuchTableError)
        else:
            assert len(catalog.load_table(table.name()).scan().to_arrow()) == 3

    def test_a_staged_table_exists_when_its_transaction_commits(self, catalog: RestCatalog, ns: str) -> None:
        """Create-table transactions: nothing is there before the commit, everything after."""
        with catalog.create_table_transaction(f"{ns}.staged", ROWS.schema, properties={"owner": "ann"}) as transaction:
            assert not catalog.table_exists(f"{ns}.staged")
            transaction.set_properties(team="blue")
        staged = catalog.load_table(f"{ns}.staged")
        assert staged.properties.items() >= {"owner": "ann", "team": "blue"}.items()
        staged.append(ROWS)
        assert len(catalog.load_table(f"{ns}.staged").scan().to_arrow()) == 3

    # -- commits

    def test_a_stale_requirement_is_409_and_changes_nothing(self, http: Http, table: Table, ns: str) -> None:
        """The second commit on the same parent is refused with the type that makes clients rebase."""
        first, second = append_updates(table), append_updates(table)
        path = f"namespaces/{ns}/tables/events"
        assert http("POST", path, first).status_code == 200
        assert error(http("POST", path, second)) == (409, "CommitFailedException")
        head = http("GET", path).json()["metadata"]["current-snapshot-id"]
        assert head == first["updates"][1]["snapshot-id"]

    def test_an_identical_commit_lands_once(self, http: Http, table: Table, ns: str) -> None:
        """The same request sent again is refused and leaves one snapshot."""
        commit, path = append_updates(table), f"namespaces/{ns}/tables/events"
        assert [http("POST", path, commit).status_code for _ in range(3)] == [200, 409, 409]
        assert len(http("GET", path).json()["metadata"]["snapshots"]) == 1

    def test_of_concurrent_commits_exactly_one_wins(self, served: Served, table: Table, ns: str) -> None:
        """Eight clients commit on the same parent at once: one 200, seven 409, one snapshot."""
        clients = [Http(served) for _ in range(8)]
        gate, statuses = threading.Barrier(len(clients), timeout=30), []
        path = f"namespaces/{ns}/tables/events"

        def commit(client: Http) -> None:
            body = append_updates(table)
            gate.wait()
            statuses.append(client("POST", path, body).status_code)

        threads = [threading.Thread(target=commit, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200] + [409] * 7
        assert len(clients[0]("GET", path).json()["metadata"]["snapshots"]) == 1

    def test_a_foreign_uuid_is_refused(self, http: Http, table: Table, ns: str) -> None:
        """A table that was dropped and made again is not the one that a writer meant."""
        commit = append_updates(table)
        commit["requirements"][0]["uuid"] = str(uuid.uuid4())
        assert error(http("POST", f"namespaces/{ns}/tables/events", commit)) == (409, "CommitFailedException")

    def test_a_writer_with_a_stale_table_rebases(self, catalog: RestCatalog, table: Table) -> None:
        """pyiceberg understands the conflict: both appends land."""
        stale = catalog.load_table(table.name())
        table.append(ROWS)
        stale.append(ROWS)
        assert len(catalog.load_table(table.name()).scan().to_arrow()) == 6

    def test_a_writer_that_may_not_rebase_is_told(self, catalog: RestCatalog, table: Table) -> None:
        """A conflict that the client does not retry is a CommitFailedException."""
        stale = catalog.load_table(table.name())
        with table.update_schema() as update:
            update.add_column("n", LongType())
        with pytest.raises(CommitFailedException), stale.update_schema() as update:
            update.add_column("m", LongType())

    # -- tolerance

    def test_unknown_fields_are_ignored(self, http: Http, ns: str) -> None:
        """A newer client's fields do no harm."""
        body = {"namespace": [f"{ns}x"], "properties": {}, "invented": 1}
        assert http("POST", "namespaces", body).status_code == 200
        schema = Schema().model_dump(by_alias=True) | {
            "fields": [{"id": 1, "name": "id", "required": False, "type": "string"}]
        }
        table = {"name": "t", "schema": schema, "invented": {"a": 1}}
        assert http("POST", f"namespaces/{ns}/tables", table).status_code == 200

    def test_an_encoded_separator_reaches_no_table(self, http: Http, ns: str) -> None:
        """Spark asks for metadata tables as a table in the namespace ns\\x1ftable: 404, not 400 or 500."""
        assert http("GET", f"namespaces/{ns}%1Fevents/tables/files").status_code == 404

    def test_without_a_token_nothing_is_told(self, http: Http) -> None:
        """401 or 403."""
        http.session.headers.pop("Authorization")
        assert http("GET", "namespaces").status_code in (401, 403)
