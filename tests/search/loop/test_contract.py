"""Every sampler of our own keeps the contract, and a plugin's is found by its name alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitpareto.search.config import load_config
from vitpareto.search.loop.contract import SamplerContract
from vitpareto.search.loop.optuna_sampler import Sampler
from vitpareto.search.samplers import SAMPLERS
from vitpareto.spaces import ConfigError

OPTUNA = {"nsga2", "nsga3", "tpe", "gp", "random"}
PLUGIN = Path(__file__).parents[2] / "plugin"
LINE = "pareto-local = vitpareto_example.local_search:ParetoLocalSearch"


def contract(name: str) -> type[SamplerContract]:
    known = {"sampler": name, "repeats": name in OPTUNA, "__module__": __name__}
    found = type(f"Test_{name}", (SamplerContract,), known)
    # Optuna's GP sampler leaves torch and BLAS to use every core, which busy machines punish.
    return pytest.mark.slow(found) if name == "gp" else found


globals().update({f"Test_{name}": contract(name) for name in SAMPLERS})


def test_what_is_no_sampler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAMPLERS._loaded, "random", lambda task: "dice")
    with pytest.raises(ConfigError, match=r"'random'.*must make a Proposer.*made str"):
        Sampler("random", SamplerContract().task())


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment in which the example plugin is installed."""
    about = tmp_path / "vitpareto_example-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vitpareto-example\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[vitpareto.samplers]\n{LINE}\n")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(PLUGIN)])}


def test_a_plugin_is_a_sampler_like_any_other(installed: dict[str, str]) -> None:
    code = """
from vitpareto.search.config import load_config
from vitpareto.search.loop.contract import SamplerContract

class Contract(SamplerContract):
    sampler = "pareto-local"

assert load_config("digits", ["search.sampler=pareto-local"]).search.sampler == Contract.sampler
laws = [name for name in dir(Contract) if name.startswith("test_")]
for name in laws:
    getattr(Contract(), name)()
print(len(laws))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=installed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5


def test_without_it_the_name_is_unknown() -> None:
    with pytest.raises(ConfigError, match=r"search\.sampler: no such sampler 'pareto-local'"):
        load_config("digits", ["search.sampler=pareto-local"])
