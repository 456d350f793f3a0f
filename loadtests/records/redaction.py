"""What of a target file, a scenario and a command line may be kept in a run directory and shown in a report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

import msgspec
import yaml
from msgspec import Struct

from loadtests.records.target import Target

S = TypeVar("S", bound=Struct)

HIDDEN = "***"

_OPEN_HEADERS = frozenset(("accept", "accept-encoding", "content-encoding", "content-type", "user-agent"))
_OPEN_PROPERTIES = frozenset(
    (
        "type", "name", "uri", "warehouse", "prefix", "scope", "oauth2-server-uri", "py-io-impl", "auth.type",
        "header.x-iceberg-access-delegation", "rest.signing-name", "rest.signing-region", "s3.endpoint", "s3.region",
        "s3.signer", "s3.signer.uri", "s3.signer.endpoint",
    )
)  # fmt: skip
_SECRET_NAME = re.compile(r"token|secret|pass|pwd|pin|cred|auth|key|cookie|sign|salt", re.IGNORECASE)
_HARMLESS = re.compile(r"env:\w+|true|false|-?[0-9]{1,9}(\.[0-9]{1,9})?", re.IGNORECASE)
_QUERY = re.compile(r"\?.*", re.DOTALL)
_USERINFO = re.compile(r"(?<=://)[^/?#]+@")
_SETTING = re.compile(r"^((?:--set=)?env\.(\w+)=)(.*)$", re.DOTALL)
_WHOLE_ENV = re.compile(r"^((?:--set=)?env=)(.*)$", re.DOTALL)
_SET_IN_COMMENT = re.compile(r"(?<=\s)env(?:\.\w+)?=.*?(?=\s[\w.]+=|$)")


def redacted(target: Target) -> Target:
    """Return a copy in which whatever can carry a secret is `***`.

    That is every header, environment value and catalog property unless its name is known to be harmless, or its value is a
    number, a truth value, or `env:NAME` (which says where the secret is); the arguments of commands; and user, password and
    query of URLs.
    """
    changes: dict[str, Any] = {
        "ingest": _with(target.ingest, url=_bare, headers=lambda headers: _hide(headers, _OPEN_HEADERS)),
        "admin": target.admin and _with(target.admin, url=_bare),
        "metrics": target.metrics and _with(target.metrics, url=_bare),
        "logs": target.logs and _with(target.logs, command=_program),
        "process": target.process and _with(target.process, command=_started, ready=_bare, env=_hide),
        "hooks": {
            name: _with(hook, inject=_program, heal=_program, probe=_program) for name, hook in target.hooks.items()
        },
        "storage": target.storage and _with(target.storage, endpoint=_bare),
        "table": _with(target.table, catalog=lambda catalog: _hide(catalog, _OPEN_PROPERTIES)),
    }
    return msgspec.structs.replace(target, **changes)


def redacted_scenario(text: str) -> str:
    """Return the YAML of a scenario in which secrets of its `env` are `***`.

    What a target is started with decides how a run goes, so it is kept, except for values whose name says that they are secret,
    and for user, password and query of URLs.
    """
    for node in reversed(_env_values(text)):
        name, value, start, end = node
        if (shown := _environment(name, value)) != value:
            text = f"{text[:start]}{json.dumps(shown)}{text[end:]}"
    lines = text.split("\n")
    return "\n".join(_comment(line) if line.startswith("#") else line for line in lines)


def redacted_arguments(argv: Iterable[str]) -> list[str]:
    """Return a command line in which secrets given by `--set env.NAME=VALUE` are `***`."""
    return [_argument(word) for word in argv]


def _argument(word: str) -> str:
    if (setting := _SETTING.match(word)) is not None:
        return setting[1] + _environment(setting[2], setting[3])
    if (whole := _WHOLE_ENV.match(word)) is not None:
        return whole[1] + (HIDDEN if _SECRET_NAME.search(whole[2]) else _bare(whole[2]))
    return word


def _comment(line: str) -> str:
    """A scenario that `--set` has changed says so in its first line."""
    return _SET_IN_COMMENT.sub(lambda found: _argument(found[0]), line)


def _environment(name: str, value: str) -> str:
    return HIDDEN if _SECRET_NAME.search(name) else _bare(value)


def _env_values(text: str) -> list[tuple[str, str, int, int]]:
    """Name, value and place of each entry of `env`, in order; none in what is no mapping."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return []
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    env = next((value for key, value in pairs if key.value == "env"), None)
    return [
        (str(key.value), str(value.value), value.start_mark.index, value.end_mark.index)
        for key, value in (env.value if isinstance(env, yaml.MappingNode) else [])
        if isinstance(value, yaml.ScalarNode)
    ]


def _with(part: S, **functions: Callable[[Any], Any]) -> S:
    """Return *part* with the named fields passed through functions; a field that is None stays so."""
    values = {name: getattr(part, name) for name in functions}
    return msgspec.structs.replace(part, **{n: functions[n](v) for n, v in values.items() if v is not None})


def _hide(values: dict[str, str], open_names: Collection[str] = ()) -> dict[str, str]:
    return {name: _shown(name, value, open_names) for name, value in values.items()}


def _shown(name: str, value: str, open_names: Collection[str]) -> str:
    if name.lower() in open_names:
        return _bare(value)
    reference = value.startswith("env:")
    harmless = _HARMLESS.fullmatch(value) and (reference or not _SECRET_NAME.search(name))
    return value if harmless else HIDDEN


def _bare(url: str) -> str:
    """*url* without user, password and query."""
    return _QUERY.sub(f"?{HIDDEN}", _USERINFO.sub(f"{HIDDEN}@", url))


def _program(command: str) -> str:
    """The program of a shell command, without its arguments."""
    program, *arguments = command.split(maxsplit=1) or [""]
    return " ".join([_plain_word(program)] + [HIDDEN] * len(arguments))


def _started(argv: list[str]) -> list[str]:
    """The program and what it runs (`-m module`, or a file), without further arguments."""
    shown = 3 if argv[1:2] == ["-m"] else 2
    return [_plain_word(word) for word in argv[:shown]] + ([HIDDEN] if len(argv) > shown else [])


def _plain_word(word: str) -> str:
    return HIDDEN if "=" in word else word
