"""A canary for gevent's check watchers, which tell when a turn of the loop began."""

import socket
import time

import gevent
import gevent.socket

from loadtests.turn import LoopTurn


def test_what_came_together_came_when_the_turn_began():
    """Ten sockets become readable at once; however long each is looked at, the turn began before the first of them."""
    turn = LoopTurn()
    pairs = [gevent.socket.socketpair() for _ in range(10)]
    seen: list[tuple[int, int]] = []

    def wait(end: socket.socket) -> None:
        end.recv(1)
        seen.append((turn.began_ns, time.monotonic_ns()))
        end_ns = time.monotonic_ns() + 2_000_000
        while time.monotonic_ns() < end_ns:  # work that holds up the others
            pass

    waiting = [gevent.spawn(wait, one) for one, _ in pairs]
    gevent.sleep(0)
    for _, other in pairs:
        other.send(b"x")
    gevent.joinall(waiting, timeout=5)
    turn.close()

    began, looked_at = zip(*seen, strict=True)
    assert len(set(began)) == 1
    assert began[0] <= looked_at[0]
    assert looked_at[-1] - began[0] >= 9 * 2_000_000
    for one, other in pairs:
        one.close()
        other.close()


def test_each_turn_begins_anew():
    """The note is of the present turn, not of the first."""
    turn = LoopTurn()
    gevent.sleep(0.001)
    first = turn.began_ns
    gevent.sleep(0.001)
    turn.close()

    assert 0 < first < turn.began_ns <= time.monotonic_ns()
