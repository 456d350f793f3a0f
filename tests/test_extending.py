"""The guide to extending works as it stands: its YAML is read, its Python is run, its list of mechanisms is the list."""

from __future__ import annotations

import inspect
import random
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from chaos.errors import NotPossible
from chaos.faults import MECHANISMS, FaultSpec, catalogue
from chaos.faults.env import Env
from chaos.scenario import load_plan
from tests.chaos.fakes import FakeSeen
from tests.mutants import MUTANTS

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
PLACE = re.compile(r"(?<=<!-- mechanisms -->\n).*?(?=<!-- end -->)", re.DOTALL)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def mechanisms() -> str:
    """The table of mechanisms, from their files."""
    rows = ["| mechanism | file | does |", "| --- | --- | --- |"]
    for name, mechanism in MECHANISMS.items():
        about = (inspect.getdoc(sys.modules[mechanism.__module__]) or "").split("\n\n")[0].replace("\n", " ")
        rows.append(f"| `{name}` | `{mechanism.__module__.rpartition('.')[2]}.py` | {about} |")
    return "\n".join(rows)


def test_the_guide_lists_every_mechanism() -> None:
    """As it is. `python -m tests.test_extending` writes the table again."""
    found = PLACE.search(GUIDE.read_text(encoding="utf-8"))
    assert found is not None
    assert found[0].strip() == mechanisms()


def test_the_guide_begins_with_the_fault_that_is_none() -> None:
    """And quotes it as the catalogue has it."""
    quoted = msgspec.yaml.decode(blocks("yaml")[0], type=dict[str, FaultSpec])
    there = catalogue()["nothing"]
    assert quoted == {"nothing": msgspec.structs.replace(there, name="")}


def test_the_named_fault_of_the_guide_is_one() -> None:
    """It builds its mechanism, has a new name, and what it kills is a mutant."""
    [(name, spec)] = msgspec.yaml.decode(blocks("yaml")[1], type=dict[str, FaultSpec]).items()
    [(killer, kills)] = msgspec.yaml.decode(blocks("yaml")[2], type=dict[str, dict[str, str]]).items()

    assert isinstance(spec.build(), MECHANISMS["http"])
    assert name not in catalogue()
    assert (killer, kills["mutant"] in MUTANTS) == (name, True)


def test_the_scenario_of_the_guide_is_one(tmp_path: Path) -> None:
    """It can be planned."""
    path = tmp_path / "mine.yaml"
    path.write_text(blocks("yaml")[3])
    assert [step.spec.name for step in load_plan(path).steps] == ["slow-r2", "kill-collector", "catalog-503"]


@pytest.fixture
def written() -> ModuleType:
    """The mechanism of the guide, imported."""
    [code] = blocks("python")
    module = ModuleType("written_in_the_guide")
    sys.modules[module.__name__] = module
    exec(compile(code, str(GUIDE), "exec"), module.__dict__)
    return module


def env_of(pid: int | None, asked: list[Any], *, met: int = 4) -> Env:
    target = SimpleNamespace(pid=pid, start=lambda: asked.append("start"))
    warden = SimpleNamespace(request=lambda op, **fields: asked.append((op, fields)))
    return Env(
        cast(Any, None), cast(Any, warden), cast(Any, target), cast(Any, FakeSeen(on_path=met)), random.Random(7)
    )


def test_the_mechanism_of_the_guide_works(written: ModuleType) -> None:
    """It is built from parameters, injected, healed, and counts what met it."""
    mechanism = msgspec.convert({"name": "HUP"}, written.Signal)
    asked: list[Any] = []
    injection = mechanism.inject(env_of(41, asked), "step0")
    assert not injection.finished()
    injection.heal()

    assert asked == [("signal", {"pid": 41, "signal": 1, "group": False})]
    assert (injection.effect().affected, injection.effect().reason) == (4, None)
    assert mechanism.problem(starts_target=True) is None
    assert "no `process`" in mechanism.problem(starts_target=False)


def test_the_mechanism_of_the_guide_says_what_it_cannot(written: ModuleType) -> None:
    """A signal that is none, a target that does not run: void, not an error."""
    with pytest.raises(NotPossible, match="no SIGMOON"):
        written.Signal(name="MOON").inject(env_of(41, []), "step0")
    with pytest.raises(NotPossible, match="no target that runs"):
        written.Signal(name="HUP").inject(env_of(None, []), "step0")


if __name__ == "__main__":
    GUIDE.write_text(PLACE.sub(lambda _: f"\n{mechanisms()}\n\n", GUIDE.read_text(encoding="utf-8")), encoding="utf-8")
