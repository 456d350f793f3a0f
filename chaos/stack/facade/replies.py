"""Answers kept by their `Idempotency-Key`: a request that is sent again gets the answer of the first, and does nothing.

A commit's answer is written in the commit's own database transaction, so it is there exactly when the commit is, also when
the catalog is killed. Answers of other requests are written right after.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable

from sqlalchemy import Column, Engine, Float, Integer, MetaData, String, Table, delete, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import Session

from chaos.stack.facade.errors import BadRequest, Unprocessable

LIFETIME_S = 1800
LIFETIME = "PT30M"
"""How long an answer is kept, in the words of ``/v1/config``."""

_ANSWERS = Table(
    "icequake_answers",
    MetaData(),
    Column("key", String(36), primary_key=True),
    Column("request", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", String, nullable=False),
    Column("unix_s", Float, nullable=False),
)


class Replies:
    """The answers that were given to requests with a key.

    Args:
        engine: The catalog's database.
        now: Unix seconds.
    """

    def __init__(self, engine: Engine, now: Callable[[], float] = time.time) -> None:
        self._engine, self._now = engine, now
        _ANSWERS.metadata.create_all(engine)

    def find(self, key: str, request: str) -> tuple[int, str] | None:
        """Return status and body of the answer that was given; raises Unprocessable when the key is another request's."""
        wanted = select(_ANSWERS).where(_ANSWERS.c.key == key, _ANSWERS.c.unix_s > self._now() - LIFETIME_S)
        with self._engine.connect() as connection:
            found = connection.execute(wanted).one_or_none()
        if found is None:
            return None
        if found.request != request:
            raise Unprocessable(f"Idempotency-Key {key} was used for another request")
        return found.status, found.body

    def keep(self, key: str, request: str, status: int, body: str, session: Session | None = None) -> None:
        """Keep an answer; within a *session*'s transaction it raises IntegrityError when there is one, else that one stays."""
        row = {"key": key, "request": request, "status": status, "body": body, "unix_s": self._now()}
        old = delete(_ANSWERS).where(_ANSWERS.c.unix_s <= self._now() - LIFETIME_S)
        if session is not None:
            session.execute(old)
            session.execute(insert(_ANSWERS).values(**row))
            return
        with self._engine.begin() as connection:
            connection.execute(old)
            connection.execute(insert(_ANSWERS).values(**row).on_conflict_do_nothing())


def checked_key(key: str) -> str:
    """Return a key that can be one; raises BadRequest."""
    try:
        return str(uuid.UUID(key))
    except ValueError:
        raise BadRequest(f"Idempotency-Key must be a UUID, not {key!r}") from None


def fingerprint(verb: str, raw_target: bytes, body: bytes) -> str:
    """Return what makes a request the same."""
    return hashlib.sha256(b"\0".join((verb.encode(), raw_target, body))).hexdigest()
