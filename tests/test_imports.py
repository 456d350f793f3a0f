"""Who may import whom: `loadtests.records <- loadtests <- chaos <- reports`, and the collector is an island.

Where something upstream needs something downstream it is a process or a file. Tests may import anything.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("collector", "loadtests", "chaos", "reports", "tests")

ALLOWED: dict[str, tuple[str, ...]] = {
    "collector": ("collector",),
    "chaos.gateway": ("chaos.gateway",),
    "chaos.table": ("chaos.table",),
    "loadtests.records": ("loadtests.records",),
    "loadtests": ("loadtests",),
    "chaos": ("chaos", "loadtests"),
    "reports": ("reports", "chaos", "loadtests"),
}
"""Package -> what its modules may import of ours; the first entry that fits a module counts."""

FOR_RECORDS = ("numpy", "pyarrow", "msgspec", "yaml", "hdrh")
"""The libraries that reading the records of a run may need."""


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module of our packages below *root*, by dotted name."""
    for package in OURS[:-1]:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imported(name: str, path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a module imports, at any depth, `importlib.import_module("x")` included."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            constants = (arg.value for arg in node.args if isinstance(arg, ast.Constant))
            yield from ((node.lineno, value) for value in constants if isinstance(value, str) and value)


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def violations(root: Path) -> list[str]:
    """Every import below *root* that the rule forbids, as `path:line imports name`."""
    found = []
    for name, path in modules(root):
        allowed = next(allowed for package, allowed in ALLOWED.items() if within(name, (package,)))
        for line, other in imported(name, path):
            if within(other, OURS) and not within(other, allowed):
                found.append(f"{path.relative_to(root)}:{line} imports {other}")
    return found


def test_imports_go_one_way() -> None:
    """No module imports what stands downstream of it."""
    assert violations(ROOT) == []


def test_the_rule_sees_every_package() -> None:
    """An empty walk would pass too: each package has modules, and some of them import others of ours."""
    names = {name for name, _ in modules(ROOT)}
    assert {
        "collector.app",
        "loadtests.records.ledger",
        "chaos.gateway.rules",
        "chaos.runner",
        "reports.judge",
    } <= names
    upstream = [other for name, path in modules(ROOT) for _, other in imported(name, path) if within(other, OURS)]
    assert any(within(other, ("loadtests.records",)) for other in upstream)


@pytest.mark.parametrize(
    ("module", "text", "forbidden"),
    [
        ("collector/app.py", "import loadtests.records.ledger", "loadtests.records.ledger"),
        ("collector/app.py", "from chaos import errors", "chaos.errors"),
        ("loadtests/client.py", "from collector.errors import X", "collector.errors.X"),
        ("loadtests/client.py", "def f():\n    import chaos.runner", "chaos.runner"),
        ("loadtests/records/ledger.py", "from loadtests.client import X", "loadtests.client.X"),
        ("loadtests/records/ledger.py", "from .. import client", "loadtests.client"),
        ("chaos/runner.py", "if True:\n    from reports.judge import judge", "reports.judge.judge"),
        ("chaos/runner.py", "import importlib\nimportlib.import_module('collector.app')", "collector.app"),
        ("chaos/gateway/rules.py", "from chaos.errors import ChaosError", "chaos.errors.ChaosError"),
        ("chaos/gateway/rules.py", "from ..errors import ChaosError", "chaos.errors.ChaosError"),
        ("chaos/gateway/rules.py", "import loadtests.records.jsonl", "loadtests.records.jsonl"),
        ("chaos/table/walk.py", "import chaos", "chaos"),
        ("reports/judge.py", "import collector", "collector"),
        ("reports/judge.py", "import tests.histories", "tests.histories"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, module: str, text: str, forbidden: str) -> None:
    """At module level, inside a function, relative, by importlib: each is named with file and line."""
    path = tmp_path / module
    path.parent.mkdir(parents=True)
    path.write_text(text + "\n", encoding="utf-8")
    line = text.count("\n") + 1
    assert violations(tmp_path) == [f"{module}:{line} imports {forbidden}"]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("collector/app.py", "from collector import errors\nfrom . import errors\nimport json"),
        ("loadtests/client.py", "from loadtests.records import ledger"),
        ("loadtests/records/ledger.py", "from . import schema"),
        ("chaos/runner.py", "import chaos.gateway.rules, loadtests.probe"),
        ("chaos/gateway/rules.py", "from .errors import X"),
        ("reports/judge.py", "import chaos.errors, loadtests.records.ledger"),
        ("reports/judge.py", "import collectors, chaostoolkit"),
    ],
)
def test_what_is_allowed_is_not_reported(tmp_path: Path, module: str, text: str) -> None:
    """Downstream imports upstream, and names that only begin like ours are somebody else's."""
    path = tmp_path / module
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    assert violations(tmp_path) == []


def test_records_need_no_generator() -> None:
    """Reading a run never imports Locust or gevent (which would patch the reader's sockets), nor anything downstream."""
    names = [name for name, _ in modules(ROOT) if within(name, ("loadtests.records",))]
    program = f"import sys, {', '.join(names)}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "loadtests.records.ledger" in loaded
    assert [
        name for name in loaded if within(name, ("locust", "gevent", "flask", "chaos", "reports", "collector"))
    ] == []


def test_records_name_the_libraries_they_need() -> None:
    """The bottom layer stays small: the standard library, arrays, Parquet, a validator, YAML and histograms."""
    foreign = {
        other.partition(".")[0]
        for name, path in modules(ROOT)
        if within(name, ("loadtests.records",))
        for _, other in imported(name, path)
    }
    assert foreign - set(sys.stdlib_module_names) - {"loadtests"} <= set(FOR_RECORDS)
