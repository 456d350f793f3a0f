"""What can go wrong around a table, each as one sentence for a person.

TableError
├── CatalogFailed      the catalog did not answer, or not with the table
├── NoTable            the catalog says that there is no such table
├── StoreFailed        the object store did not answer, or refused
├── ObjectMissing      there is no such object
├── NotAContainer      bytes that are not an Avro object container, or not a whole one
├── NotApplicable      a mutation that this object cannot be given
└── CannotRepair       the evidence is not enough to mend it without guessing
"""

from __future__ import annotations


class TableError(Exception):
    """Something around a table failed; ``str(error)`` is one sentence."""


class CatalogFailed(TableError):
    """The catalog did not answer, or not with the table."""


class NoTable(TableError):
    """The catalog says that there is no such table."""


class StoreFailed(TableError):
    """The object store did not answer, or refused."""


class ObjectMissing(TableError):
    """There is no such object."""


class NotAContainer(TableError):
    """Bytes that are not an Avro object container, or not a whole one."""


class NotApplicable(TableError):
    """A mutation that this object cannot be given."""


class CannotRepair(TableError):
    """The evidence is not enough to mend it without guessing."""


def sentence(error: BaseException) -> str:
    """Return one line of at most 240 characters for a foreign error."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
