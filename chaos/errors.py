"""What can go wrong while breaking things on purpose, each as one sentence for a person.

ChaosError                     exit 255: the harness itself failed
├── ToolMissing                a program the stack needs is not on this machine
├── PortTaken                  another program holds a port that was to be ours
├── NotReady                   a process was started and did not become ready in time
├── ProcessFailed              a process could not be started at all
├── ControlHung                a control API did not answer within its deadline, or refused
│   └── ServerGone             nothing listens where a control API was: its server has ended
├── WardenGone                 the warden ended, or gave up on this process's lease
├── StackInUse                 another run uses the attached stack
├── HealFailed                 a fault could not be proved removed
├── NotPossible                a fault cannot be injected on this machine or into this target; its step is void
├── NotNow                     an operator asked for what the present phase of a live session does not allow
└── BadInput                   exit 254: arguments or files a person has to change
    ├── BadScenario
    ├── BadTarget
    ├── BadLog                 a recorded log that no traffic can be made from
    ├── BadState               a journal or a stack file that cannot be used
    └── NotAllowed             the target does not permit what the scenario asks for
"""

from __future__ import annotations


class ChaosError(Exception):
    """The harness failed; ``str(error)`` is one sentence fit for a terminal.

    ``code`` is stable and goes into JSON output as ``error.code``; ``exit_code`` is what the command ends with.
    """

    code = "chaos_error"
    exit_code = 255

    @property
    def sentence(self) -> str:
        """The sentence shown to a person."""
        return str(self)


class ToolMissing(ChaosError):
    """A program the stack needs is not on this machine."""

    code = "tool_missing"


class PortTaken(ChaosError):
    """Another program holds a port that was to be ours."""

    code = "port_taken"


class NotReady(ChaosError):
    """A process was started and did not become ready in time, or ended before it was.

    ``log_tail`` holds the last lines it wrote; the sentence carries the last of them.
    """

    code = "not_ready"

    def __init__(self, name: str, seconds: float, log_tail: str = "", reason: str = "") -> None:
        self.name = name
        self.seconds = seconds
        self.log_tail = log_tail
        why = reason or f"was not ready after {seconds:.1f} s"
        last = log_tail.strip().splitlines()[-1:]
        super().__init__(f"{name} {why}" + (f"; its last line was: {last[0][:300]}" if last else ""))


class ProcessFailed(ChaosError):
    """A process could not be started."""

    code = "process_failed"


class ControlHung(ChaosError):
    """A control API did not answer within its deadline, or did not do what it was told."""

    code = "control_hung"


class ServerGone(ControlHung):
    """Nothing listens where a control API was, so what its server had injected ended with it."""

    code = "server_gone"


class WardenGone(ChaosError):
    """The warden ended: every child is gone with it and every journaled fault was healed."""

    code = "warden_gone"


class StackInUse(ChaosError):
    """Another run uses the attached stack."""

    code = "stack_in_use"


class HealFailed(ChaosError):
    """A fault could not be proved removed."""

    code = "heal_failed"


class NotNow(ChaosError):
    """An operator asked for what the present phase of a live session does not allow; later it may."""

    code = "not_now"


class NotPossible(ChaosError):
    """A fault cannot be injected on this machine or into this target; its step is void."""

    code = "not_possible"


class BadInput(ChaosError):
    """Arguments or files that a person has to change."""

    code = "bad_input"
    exit_code = 254


class BadScenario(BadInput):
    """A scenario that cannot be run as it is written."""

    code = "bad_scenario"


class BadTarget(BadInput):
    """A target file that cannot be used as it is written."""

    code = "bad_target"


class BadLog(BadInput):
    """A recorded log that no traffic can be made from, or a place it cannot be written to."""

    code = "bad_log"


class BadState(BadInput):
    """A journal or a stack file that cannot be used."""

    code = "bad_state"


class NotAllowed(BadInput):
    """The target does not permit what the scenario asks for."""

    code = "not_allowed"
