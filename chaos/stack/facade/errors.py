"""What the catalog answers when it does not do what was asked, with the type names of the Iceberg REST specification.

ApiError
├── BadRequest          400
├── NotAuthorized       401
├── NotFound            404  also the metadata of a table that is kept in local files
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
    """One answer with an error body; ``str(error)`` is its message.

    Attributes:
        status: HTTP status.
        type: The specification's name of the error.
    """

    status = 500
    type = "InternalServerError"

    def __init_subclass__(cls, *, status: int | None = None, type: str | None = None) -> None:
        """Say status and type where they differ from those of the parent class."""
        super().__init_subclass__()
        cls.status = cls.status if status is None else status
        cls.type = cls.type if type is None else type


class BadRequest(ApiError, status=400, type="BadRequestException"):
    """The request cannot be understood or makes no sense."""


class NotAuthorized(ApiError, status=401, type="NotAuthorizedException"):
    """No token, or one that is not valid."""


class NotFound(ApiError, status=404, type="NotFoundException"):
    """There is no such path, or no such local file."""


class NoSuchNamespace(NotFound, type="NoSuchNamespaceException"):
    """The namespace does not exist."""


class NoSuchTable(NotFound, type="NoSuchTableException"):
    """The table does not exist."""


class NoSuchView(NotFound, type="NoSuchViewException"):
    """The view does not exist: this catalog has none."""


class NotAllowedHere(ApiError, status=405, type="MethodNotAllowedException"):
    """The path exists, the verb does not."""


class Unsupported(ApiError, status=406, type="UnsupportedOperationException"):
    """The specification has it, this catalog does not."""


class AlreadyExists(ApiError, status=409, type="AlreadyExistsException"):
    """What was to be made is there."""


class NamespaceNotEmpty(ApiError, status=409, type="NamespaceNotEmptyException"):
    """The namespace still has tables or namespaces."""


class CommitFailed(ApiError, status=409, type="CommitFailedException"):
    """The commit was refused; the table is as it was."""


class TooLarge(ApiError, status=413, type="BadRequestException"):
    """The body is larger than any request of a client."""


class Unprocessable(ApiError, status=422, type="UnprocessableEntityException"):
    """A key is both set and removed."""


class InternalError(ApiError):
    """The catalog failed."""


class MetadataUnreadable(InternalError, type="ServiceFailureException"):
    """The catalog knows the table and cannot read its metadata."""


class Unavailable(ApiError, status=503, type="ServiceUnavailableException"):
    """Not now; nothing was applied."""


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
