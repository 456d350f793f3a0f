"""The endpoints of the Iceberg REST specification: which there are, what they read from a request, what they answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError
from pyiceberg.catalog.rest import CreateTableRequest, RegisterTableRequest
from pyiceberg.table import CommitTableRequest, CommitTableResponse
from pyiceberg.typedef import IcebergBaseModel
from sqlalchemy.orm import Session

from chaos.stack.facade.catalog import Catalog, TableChange
from chaos.stack.facade.errors import BadRequest, NoSuchNamespace, NoSuchTable, NoSuchView, Unsupported
from chaos.stack.facade.names import Levels, checked, from_path, shown
from chaos.stack.facade.replies import LIFETIME

Model = TypeVar("Model", bound=IcebergBaseModel)


@dataclass(frozen=True)
class Call:
    """One request, its path matched.

    Attributes:
        names: The parts of the path in braces, decoded.
        remember: Keeps an answer by the request's idempotency key, within a transaction; None without a key.
    """

    names: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    remember: Callable[[Session, int, str], None] | None = None

    @property
    def namespace(self) -> Levels:
        """The namespace of the path."""
        return from_path(self.names["namespace"])

    @property
    def table(self) -> str:
        """The table of the path."""
        return self.names["table"]

    def document(self) -> dict[str, Any]:
        """Read the body as a JSON object; raises BadRequest."""
        try:
            document = json.loads(self.body or b"{}")
        except ValueError as error:
            raise BadRequest(f"The body is not JSON: {error}") from None
        if not isinstance(document, dict):
            raise BadRequest("The body is not a JSON object")
        return document

    def read(self, model: type[Model], **defaults: object) -> Model:
        """Read the body as one of pyiceberg's models, which call some fields required that the specification does not."""
        return _parsed(model, {**defaults, **self.document()})

    def keep(self, session: Session, reply: Reply) -> None:
        """Keep the answer within the transaction that makes it true, when the request has an idempotency key."""
        if self.remember is not None:
            self.remember(session, reply.status, reply.body)


def _parsed(model: type[Model], document: Mapping[str, Any]) -> Model:
    try:
        return model.model_validate_json(json.dumps(document))
    except (ValidationError, ValueError) as error:
        raise BadRequest(f"The body is not a {model.__name__}: {error}") from None


class Reply(NamedTuple):
    """Status and JSON text."""

    status: int
    body: str = ""


class Endpoint(NamedTuple):
    """One verb and path of the specification, below ``/v1``; ``advertised`` in the configuration."""

    verb: str
    path: str
    handle: Callable[[Catalog, Call], Reply]
    advertised: bool = True


def _json(value: object) -> Reply:
    return Reply(200, json.dumps(value))


def _model(model: IcebergBaseModel) -> Reply:
    return Reply(200, model.model_dump_json())


def page(names: Sequence[Any], key: Callable[[Any], str], query: Mapping[str, str]) -> tuple[list[Any], str | None]:
    """Cut one page from names in order, and say where the next begins; without ``pageToken`` there is one page.

    The token is the last name given out, so that names which come or go in between do not shift a page.
    """
    after = query.get("pageToken")
    if after is None:
        return list(names), None
    size = query.get("pageSize", "1000")
    if not size.isdecimal() or int(size) < 1:
        raise BadRequest(f"pageSize must be a number from 1, not {size!r}")
    rest = [name for name in names if key(name) > after]
    given = rest[: int(size)]
    return given, key(given[-1]) if len(rest) > len(given) else None


def _listing(name: str, values: Sequence[object], token: str | None) -> Reply:
    return _json({name: values} if token is None else {name: values, "next-page-token": token})


# -- namespaces


def _list_namespaces(catalog: Catalog, call: Call) -> Reply:
    parent = from_path(call.query["parent"]) if call.query.get("parent") else ()
    given, token = page(catalog.list_namespaces(parent), lambda levels: levels[-1], call.query)
    return _listing("namespaces", given, token)


def _create_namespace(catalog: Catalog, call: Call) -> Reply:
    document = call.document()
    levels, properties = _levels(document), document.get("properties") or {}
    if not isinstance(properties, dict):
        raise BadRequest("`properties` must be an object")
    catalog.create_namespace(levels, properties)
    return _json({"namespace": levels, "properties": properties})


def _load_namespace(catalog: Catalog, call: Call) -> Reply:
    return _json({"namespace": call.namespace, "properties": catalog.namespace_properties(call.namespace)})


def _namespace_exists(catalog: Catalog, call: Call) -> Reply:
    if not catalog.namespace_exists(call.namespace):
        raise NoSuchNamespace(f"Namespace does not exist: {shown(call.namespace)}")
    return Reply(204)


def _drop_namespace(catalog: Catalog, call: Call) -> Reply:
    catalog.drop_namespace(call.namespace)
    return Reply(204)


def _update_properties(catalog: Catalog, call: Call) -> Reply:
    document = call.document()
    removals, updates = document.get("removals") or [], document.get("updates") or {}
    if not isinstance(removals, list) or not isinstance(updates, dict):
        raise BadRequest("`removals` must be a list and `updates` an object")
    summary = catalog.update_properties(call.namespace, removals, updates)
    return _json({"removed": summary.removed, "updated": summary.updated, "missing": summary.missing})


def _levels(document: Mapping[str, Any]) -> Levels:
    levels = document.get("namespace")
    if not isinstance(levels, list) or not all(isinstance(level, str) for level in levels):
        raise BadRequest("`namespace` must be a list of names")
    return checked(tuple(levels))


# -- tables


def _list_tables(catalog: Catalog, call: Call) -> Reply:
    given, token = page(catalog.list_tables(call.namespace), str, call.query)
    return _listing("identifiers", [{"namespace": call.namespace, "name": name} for name in given], token)


def _create_table(catalog: Catalog, call: Call) -> Reply:
    optional: dict[str, object] = {"location": None, "partition-spec": None, "write-order": None}
    return _model(catalog.create(call.namespace, call.read(CreateTableRequest, **optional)))


def _register_table(catalog: Catalog, call: Call) -> Reply:
    return _model(catalog.register(call.namespace, call.read(RegisterTableRequest, overwrite=False)))


def _load_table(catalog: Catalog, call: Call) -> Reply:
    return _model(catalog.load(call.namespace, call.table))


def _table_exists(catalog: Catalog, call: Call) -> Reply:
    if not catalog.table_exists(call.namespace, call.table):
        raise NoSuchTable(f"Table does not exist: {shown((*call.namespace, call.table))}")
    return Reply(204)


def _commit(catalog: Catalog, call: Call) -> Reply:
    change = _change(call.namespace, call.table, call.document())

    def note(session: Session, responses: Sequence[CommitTableResponse]) -> None:
        call.keep(session, _model(responses[0]))

    return _model(catalog.commit([change], note)[0])


def _commit_several(catalog: Catalog, call: Call) -> Reply:
    changes = call.document().get("table-changes")
    if not isinstance(changes, list) or not changes:
        raise BadRequest("`table-changes` must be a list of commits")
    catalog.commit([_named_change(one) for one in changes], lambda session, _: call.keep(session, Reply(204)))
    return Reply(204)


def _named_change(document: object) -> TableChange:
    identifier = document.get("identifier") if isinstance(document, dict) else None
    if (
        not isinstance(document, dict)
        or not isinstance(identifier, dict)
        or not isinstance(identifier.get("name"), str)
    ):
        raise BadRequest("Each of `table-changes` must have an `identifier` with a namespace and a name")
    return _change(_levels(identifier), identifier["name"], document)


def _change(levels: Levels, name: str, document: Mapping[str, Any]) -> TableChange:
    identifier = {"namespace": levels, "name": name}
    request = _parsed(CommitTableRequest, {"requirements": [], "updates": [], **document, "identifier": identifier})
    return TableChange(levels, name, request.requirements, request.updates)


def _credentials(catalog: Catalog, call: Call) -> Reply:
    location, keys = catalog.credentials(call.namespace, call.table)
    return _json({"storage-credentials": [{"prefix": location, "config": keys}]})


def _drop_table(catalog: Catalog, call: Call) -> Reply:
    catalog.drop(call.namespace, call.table, purge=call.query.get("purgeRequested", "").lower() == "true")
    return Reply(204)


def _rename_table(catalog: Catalog, call: Call) -> Reply:
    document = call.document()
    ends = []
    for key in ("source", "destination"):
        end = document.get(key)
        if not isinstance(end, dict) or not isinstance(end.get("name"), str):
            raise BadRequest(f"`{key}` must have a namespace and a name")
        ends.append((_levels(end), end["name"]))
    (source, name), (target, new_name) = ends
    catalog.rename(source, name, target, new_name)
    return Reply(204)


def _metrics(catalog: Catalog, call: Call) -> Reply:  # noqa: ARG001  # clients report and do not care
    return Reply(204)


# -- views: there are none, and none can be made


def _list_views(catalog: Catalog, call: Call) -> Reply:
    _namespace_exists(catalog, call)
    return _json({"identifiers": []})


def _no_view(catalog: Catalog, call: Call) -> Reply:  # noqa: ARG001
    raise NoSuchView(f"View does not exist: {shown((*call.namespace, call.names['view']))}")


def _unsupported(catalog: Catalog, call: Call) -> Reply:  # noqa: ARG001
    raise Unsupported("This catalog has no views and no scan planning")


_NS = "namespaces/{namespace}"
_TABLE = f"{_NS}/tables/{{table}}"
_VIEW = f"{_NS}/views/{{view}}"

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "namespaces", _list_namespaces),
    Endpoint("POST", "namespaces", _create_namespace),
    Endpoint("GET", _NS, _load_namespace),
    Endpoint("HEAD", _NS, _namespace_exists),
    Endpoint("DELETE", _NS, _drop_namespace),
    Endpoint("POST", f"{_NS}/properties", _update_properties),
    Endpoint("GET", f"{_NS}/tables", _list_tables),
    Endpoint("POST", f"{_NS}/tables", _create_table),
    Endpoint("GET", _TABLE, _load_table),
    Endpoint("HEAD", _TABLE, _table_exists),
    Endpoint("POST", _TABLE, _commit),
    Endpoint("DELETE", _TABLE, _drop_table),
    Endpoint("POST", "tables/rename", _rename_table),
    Endpoint("POST", f"{_NS}/register", _register_table),
    Endpoint("POST", f"{_TABLE}/metrics", _metrics),
    Endpoint("GET", f"{_TABLE}/credentials", _credentials),
    Endpoint("POST", "transactions/commit", _commit_several),
    Endpoint("GET", f"{_NS}/views", _list_views, advertised=False),
    Endpoint("GET", _VIEW, _no_view, advertised=False),
    Endpoint("HEAD", _VIEW, _no_view, advertised=False),
    Endpoint("DELETE", _VIEW, _no_view, advertised=False),
    Endpoint("POST", f"{_NS}/views", _unsupported, advertised=False),
    Endpoint("POST", _VIEW, _unsupported, advertised=False),
    Endpoint("POST", f"{_NS}/register-view", _unsupported, advertised=False),
    Endpoint("POST", "views/rename", _unsupported, advertised=False),
    Endpoint("POST", f"{_TABLE}/plan", _unsupported, advertised=False),
    Endpoint("POST", f"{_TABLE}/tasks", _unsupported, advertised=False),
)


def configuration(defaults: Mapping[str, str]) -> dict[str, object]:
    """Make the answer of ``/v1/config``: a client uses only the endpoints that are listed, and its own settings over *defaults*."""
    listed = [f"{one.verb} /v1/{{prefix}}/{one.path}" for one in ENDPOINTS if one.advertised]
    return {"defaults": dict(defaults), "overrides": {}, "endpoints": listed, "idempotency-key-lifetime": LIFETIME}
