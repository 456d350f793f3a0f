import socket
from pathlib import Path

import pytest

from chaos.stack.ports import FIRST, LAST, Ports, is_free


def test_ports_are_distinct_and_free(tmp_path: Path) -> None:
    """Each port is another one, is free, and lies outside the range of outgoing connections."""
    ports = Ports(tmp_path)
    taken = [ports.take() for _ in range(50)]
    assert len(set(taken)) == 50
    assert all(is_free(port) and FIRST <= port <= LAST for port in taken)
    ports.close()


def test_another_stack_chooses_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one holds a port no other gets it, though nobody has bound it; afterwards it may."""
    monkeypatch.setattr("chaos.stack.ports._candidates", lambda last: iter(range(FIRST, last + 1)))
    one, other = Ports(tmp_path), Ports(tmp_path)
    first = one.take()
    assert other.take() > first
    one.close()
    assert Ports(tmp_path).take() == first
    other.close()


def test_a_bound_port_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port somebody listens on is not free, on whichever address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not is_free(port)
        monkeypatch.setattr("chaos.stack.ports._candidates", lambda last: iter([port, FIRST]))
        ports = Ports(tmp_path)
        assert ports.take() == FIRST
        ports.close()


def test_pairs_keep_their_distance(tmp_path: Path) -> None:
    """Both ports of a pair are ours."""
    ports = Ports(tmp_path)
    low = ports.take_apart(10000)
    assert {path.name for path in tmp_path.iterdir()} == {str(low), str(low + 10000)}
    ports.close()
    assert list(tmp_path.iterdir()) == []


def test_locks_of_the_dead_are_swept(tmp_path: Path) -> None:
    """A lock file that nobody holds is removed, one that is held is not."""
    ports = Ports(tmp_path)
    held = ports.take()
    (tmp_path / "20001").touch()
    Ports(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [str(held)]
    ports.close()
