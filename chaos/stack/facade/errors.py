"""What the catalog answers when it does not do what was asked, with the type names of the Iceberg REST specification.

ApiError
├── BadRequest          400
├── NotAuthorized       401
├── NotFound            404
│   ├── NoSuchNamespace
│   ├── NoSuchTable
│   └── NoSuchView
├── NotAllowedHere      405
├── Unsupported         406
├── AlreadyExists       409
├── NamespaceNotEmpty   409
├── CommitFailed        409  a requirement does not hold, or another commit came first: nothing was applied
├── TooLarge            413
├── Unprocessable       422
├── InternalError       500
│   └── MetadataUnreadable   the metadata.json that the catalog points to is missing or broken
└── Unavailable         503  database locked or object store silent: nothing was applied, try again
"""

from __future__ import annotations

import re

from pydantic import ValidationError as InvalidModel
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.exceptions import ValidationError as InvalidMetadata
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted


class ApiError(Exception):
    """One answer with an error body; ``str(error)`` is its message."""

    status = 500
    type = "InternalServerError"


class BadRequest(ApiError):
    """The request cannot be understood or makes no sense."""

    status = 400
    type = "BadRequestException"


class NotAuthorized(ApiError):
    """No token, or one that is not valid."""

    status = 401
    type = "NotAuthorizedException"


class NotFound(ApiError):
    """There is no such path."""

    status = 404
    type = "NotFoundException"


class NoSuchNamespace(NotFound):
    """The namespace does not exist."""

    type = "NoSuchNamespaceException"


class NoSuchTable(NotFound):
    """The table does not exist."""

    type = "NoSuchTableException"


class NoSuchView(NotFound):
    """The view does not exist: this catalog has none."""

    type = "NoSuchViewException"


class NotAllowedHere(ApiError):
    """The path exists, the verb does not."""

    status = 405
    type = "MethodNotAllowedException"


class Unsupported(ApiError):
    """The specification has it, this catalog does not."""

    status = 406
    type = "UnsupportedOperationException"


class AlreadyExists(ApiError):
    """What was to be made is there."""

    status = 409
    type = "AlreadyExistsException"


class NamespaceNotEmpty(ApiError):
    """The namespace still has tables or namespaces."""

    status = 409
    type = "NamespaceNotEmptyException"


class CommitFailed(ApiError):
    """The commit was refused; the table is as it was."""

    status = 409
    type = "CommitFailedException"


class TooLarge(ApiError):
    """The body is larger than any request of a client."""

    status = 413
    type = "BadRequestException"


class Unprocessable(ApiError):
    """A key is both set and removed."""

    status = 422
    type = "UnprocessableEntityException"


class InternalError(ApiError):
    """The catalog failed."""


class MetadataUnreadable(InternalError):
    """The catalog knows the table and cannot read its metadata."""

    type = "ServiceFailureException"


class Unavailable(ApiError):
    """Not now; nothing was applied."""

    status = 503
    type = "ServiceUnavailableException"


_LATE = re.compile(r"snapshot with id \S+ already exists|sequence number", re.IGNORECASE)
_WORDING = (
    (re.compile(r"^Table UUID does not match:"), "Requirement failed: UUID does not match: expected"),
    (re.compile(r"^Table already exists$"), "Requirement failed: table already exists"),
    (re.compile(r"current schema id has changed"), "current schema changed"),
    (re.compile(r"default (spec|sort order) id has changed"), r"default \1 changed"),
    (re.compile(r"default spec changed"), "default partition spec changed"),
    (re.compile(r"last assigned (field|partition) id has changed"), r"last assigned \1 id changed"),
    (re.compile(r"expected (?:id )?(\S+), found (\S+)"), r"expected id \1 != \2"),
)
"""pyiceberg's words for a requirement that does not hold -> those of Iceberg's own catalogs, which clients compare."""


def translate(error: Exception) -> ApiError:
    """Return the answer to an exception of ours, pyiceberg, SQLAlchemy or the object store.

    What a commit raises it raises before its transaction is committed, so no answer here is about a commit that was applied; only
    when the database fails to say whether it has committed is that not known, and then the answer is 500, as clients expect.
    """
    match error:
        case ApiError():
            return error
        case CommitFailedException():
            return CommitFailed(_reworded(str(error)))
        case OperationalError() if "locked" in str(error.orig) or "busy" in str(error.orig):
            return Unavailable(f"The catalog's database is in use: {error.orig}")
        case PoolExhausted():
            return Unavailable("The catalog's database has no connection free")
        case IntegrityError():
            return AlreadyExists("Already exists: another request created it first")
        case InvalidMetadata() | InvalidModel() | UnicodeDecodeError() | FileNotFoundError() | EOFError():
            return MetadataUnreadable(f"The table's metadata cannot be read: {error}")
        case NotImplementedError():
            return Unsupported(str(error) or "This catalog cannot do that")
        case ValueError() if _LATE.search(str(error)):
            return CommitFailed(f"Commit failed: {error}")
        case ValueError():
            return BadRequest(str(error))
        case OSError():
            return Unavailable(f"The object store failed, nothing was applied: {error}")
    return InternalError(f"{type(error).__name__}: {error}")


def _reworded(message: str) -> str:
    for pattern, words in _WORDING:
        message = pattern.sub(words, message)
    return message
