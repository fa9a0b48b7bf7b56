import random
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
import pytest

from vitpareto.search.loop.optuna_sampler import Sampler
from vitpareto.search.loop.task import Task
from vitpareto.search.pareto.objectives import Objective, violations
from vitpareto.spaces import Candidate, SearchSpace, UnknownNameError

OBJECTIVES = [Objective("accuracy"), Objective("latency_ms", limit=4.0)]


def costs(assignment: dict[str, object]) -> dict[str, float]:
    """A made-up problem: deep and wide is slow and accurate."""
    size = assignment["stages.0.depth"] * assignment["stages.0.width"] / 16  # 1, 2 or 4
    return {"accuracy": size / 4, "latency_ms": 2.0 * size}


def known(candidates: Sequence[Candidate]) -> list[dict[str, float]]:
    stages = [candidate.architecture.stages[0] for candidate in candidates]
    return [{"latency_ms": len(stage.blocks) * stage.width / 8} for stage in stages]


def open_sampler(
    space: SearchSpace, name: str, seed: int = 0, trials: int = 20, journal: Path | None = None
) -> Sampler:
    return Sampler(name, Task(space, OBJECTIVES, known, seed, trials), journal)


def drive(sampler: Sampler, trials: int, answer: Callable = costs) -> list[dict]:
    found = []
    for _ in range(trials):
        proposal = sampler.ask()
        metrics = answer(proposal.assignment)
        sampler.tell(proposal, "key", metrics, violations(metrics, OBJECTIVES))
        found.append(dict(proposal.assignment))
    return found


# Optuna's GP sampler leaves torch and BLAS to use every core, which busy machines punish.
GP = pytest.param("gp", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["nsga2", "nsga3", "tpe", "random", GP, "surrogate", "sequential"])
def test_the_same_seed_proposes_the_same(space: SearchSpace, name: str, tmp_path: Path) -> None:
    def proposals(seed: int, journal: Path | None = None) -> list[dict]:
        return drive(open_sampler(space, name, seed, 25, journal), 14)

    first = proposals(0)
    assert proposals(0, tmp_path / "study.journal") == first
    assert proposals(1) != first
    for assignment in first:
        assert space.candidate(assignment) in space


@pytest.mark.parametrize("name", ["nsga2", "nsga3", "tpe"])
def test_limits_are_learned(space: SearchSpace, name: str) -> None:
    def infeasible(sampler_name: str) -> int:
        late = drive(open_sampler(space, sampler_name, trials=100), 100)[60:]
        return sum(costs(assignment)["latency_ms"] > 4 for assignment in late)

    assert infeasible(name) < 0.7 * infeasible("random")


def test_the_journal_holds_constraints_and_keys(space: SearchSpace, tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    sampler = open_sampler(space, "random", journal=journal)
    drive(sampler, 20)
    proposal = sampler.ask()
    sampler.fail(proposal, "poison")
    study = opened(journal)
    assert study.metric_names == ["accuracy", "latency_ms"]
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    *complete, failed = study.trials
    assert len(complete) == 20
    for trial in complete:
        assert trial.state == optuna.trial.TrialState.COMPLETE
        (excess,) = trial.constraints.values()
        assert excess == pytest.approx(trial.values[1] / 4 - 1)
    assert failed.state == optuna.trial.TrialState.FAIL
    assert failed.user_attrs == {"key": "poison"}


def test_the_journal_numbers_trials_as_they_were_asked(space: SearchSpace, tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    sampler = open_sampler(space, "random", journal=journal)
    first, second, _ = [sampler.ask() for _ in range(3)]
    for proposal in (second, first):
        sampler.tell(proposal, f"asked {proposal.number}", costs(proposal.assignment), {})
    trials = opened(journal).trials
    assert [trial.user_attrs["key"] for trial in trials] == ["asked 0", "asked 1"]
    assert [trial.params for trial in trials] == [first.assignment, second.assignment]


def opened(journal: Path) -> optuna.Study:
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    storage = optuna.storages.journal.JournalStorage(backend)
    return optuna.load_study(study_name="tiny", storage=storage)


def test_unknown_sampler(space: SearchSpace) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'nsga3'"):
        open_sampler(space, "nsga-3")


def test_a_left_over_journal_is_replaced(space: SearchSpace, tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    journal.write_bytes(random.Random(0).randbytes(500))
    (tmp_path / "study.journal.lock").touch()
    drive(open_sampler(space, "random", journal=journal), 5)
    assert journal.read_text().count("\n") > 5
