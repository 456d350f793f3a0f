"""Faults that only the owner of a target can inject: commands from its file (`hooks`), such as revoking a real token."""

from __future__ import annotations

import shlex
import subprocess
import time
from typing import Annotated

from msgspec import Meta, Struct, structs

from chaos.errors import HealFailed, NotPossible
from chaos.faults.env import Effect, Env
from loadtests.records.target import Hook

COMMAND_S = 60.0
POLL_S = 0.5
PATHS = ("ingest", "r2", "catalog")


class OwnersHook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run `inject`, later `heal`, of a hook of the target file, in the directory of that file; `probe` shows the effect.

    `{pid}` in a command is the process id of the target, where icequake started it.

    Attributes:
        hook: Its name there. Its probe ends with 0 while nothing is broken, and with anything else while it is.
        heals_within_s: How long the probe may go on failing after `heal`: permissions take time to spread.
    """

    hook: str
    heals_within_s: Annotated[float, Meta(ge=0, le=3600)] = 60.0

    def problem(self, *, starts_target: bool) -> str | None:  # noqa: ARG002  # the mechanism's signature
        """The owner's commands work wherever the target runs."""
        return None

    def inject(self, env: Env, name: str) -> HookInjection:  # noqa: ARG002  # the mechanism's signature
        """Run the hook's `inject`; its `heal` is journaled first. Raises NotPossible."""
        return HookInjection(self, env)


class HookInjection:
    """A hook that was run."""

    def __init__(self, spec: OwnersHook, env: Env) -> None:
        self._spec, self._env = spec, env
        if spec.hook not in env.hooks:
            raise NotPossible(f"the target file has no hook {spec.hook!r}; it has {', '.join(env.hooks) or 'none'}")
        self._hook = _filled(env.hooks[spec.hook], env)
        self._before = self._works()
        if self._before is False:
            raise NotPossible(f"the probe of hook {spec.hook} fails already, so it could not show an effect")
        argv = shlex.split(self._hook.heal)
        self._undo = env.warden.undo({"kind": "command", "argv": argv, "cwd": str(env.here)})
        self._since_ns = self._until_ns = time.monotonic_ns()
        done = self._run(self._hook.inject)
        if done.returncode != 0:
            self._undo.play(COMMAND_S)
            raise NotPossible(f"`inject` of hook {spec.hook} ended with status {done.returncode}: {_last(done.stderr)}")
        self._during = self._works()

    def finished(self) -> bool:
        """It lasts as long as the step."""
        return False

    def heal(self) -> None:
        """Run the hook's `heal` and wait until its probe is content. Raises HealFailed."""
        outcome = self._undo.play(COMMAND_S / 4)
        self._until_ns = time.monotonic_ns()
        if not outcome.ok:
            raise HealFailed(f"`heal` of hook {self._spec.hook} failed ({outcome.detail}); run it by hand.")
        deadline = time.monotonic() + self._spec.heals_within_s
        while self._works() is False:
            if time.monotonic() > deadline:
                raise HealFailed(
                    f"the probe of hook {self._spec.hook} still fails {self._spec.heals_within_s:g} s after `heal`."
                )
            time.sleep(POLL_S)

    def effect(self) -> Effect:
        """Count the requests sent meanwhile; none count unless the probe failed."""
        measured = {"probe_before": self._before, "probe_during": self._during}
        met = sum(self._env.seen.on_path(path, self._since_ns, self._until_ns) for path in PATHS)
        if self._during is None:
            return Effect(
                0, met, f"hook {self._spec.hook} has no probe, so nothing shows that it took effect", measured
            )
        if self._during:
            return Effect(0, met, f"the probe of hook {self._spec.hook} was content while it was on", measured)
        return Effect(met, 0, None if met else "nothing was sent while it was on", measured)

    def _works(self) -> bool | None:
        return self._run(self._hook.probe).returncode == 0 if self._hook.probe is not None else None

    def _run(self, command: str) -> subprocess.CompletedProcess[str]:
        argv = shlex.split(command)
        try:
            return subprocess.run(
                argv, cwd=self._env.here, capture_output=True, text=True, check=False, timeout=COMMAND_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(argv, 255, "", str(error))


def _filled(hook: Hook, env: Env) -> Hook:
    if not any("{pid}" in command for command in (hook.inject, hook.heal, hook.probe or "")):
        return hook
    pid = env.target.pid if env.target is not None else None
    if pid is None:
        raise NotPossible("the hook asks for the process id of the target ({pid}), which icequake does not run")
    words = {name: command.replace("{pid}", str(pid)) for name, command in structs.asdict(hook).items() if command}
    return Hook(**words)


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1][:200]
