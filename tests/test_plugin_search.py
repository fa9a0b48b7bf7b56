"""The example plugin in a fresh environment: a whole search that uses everything it adds."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from .test_plugin import ROOT, site

__all__ = ["site"]  # a fixture of another file
SPACE = """
name: holes
in_chans: 1
num_classes: 10
input_size: 16
patch_size: 4
global_pool: avg
stages:
  - depth: [1, 2]
    width: [16, 32]
    head_dim: 8
    num_heads: 2
    ternary: [false, true]
    blocks:
      mixer: [softmax, dilated]
      kernel_size: 3
      dilation: [1, 2]
      mlp_ratio: [1.0, 2.0]
"""
TRAIN = {"epochs": 1, "batch_size": 128}
RUN = {
    "space": "holes.yaml",
    "device": {"name": "plain.yaml", "calibrate_s": 1},
    "teacher": TRAIN,
    "supernet": {**TRAIN, "random": 1},
    "forecast": {"candidates": 0},
    "search": {"trials": 24, "sampler": "pareto-local"},
    "executor": {"threads": 1},
    "finish": {**TRAIN, "finalists": 1},
}
DEVICE = {
    "runtime": "plain_ort",
    "provider": "CPUExecutionProvider",
    "threads": 1,
    "recipes": ["float", "dynamic8", "stored8", "stored4"],
}


@pytest.fixture(scope="module")
def python(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own, with this one's packages and the plugin."""
    home = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(subprocess.check_output([python, "-c", query], text=True).strip())
    known = [path for path in map(Path, sys.path) if path.name == "site-packages"]
    shared = dict.fromkeys([sysconfig.get_path("purelib"), *map(str, known), str(site)])
    lines = [f"import site; site.addsitedir({path!r})" for path in shared]
    (own / "shared.pth").write_text("\n".join(lines) + "\n")
    return python


MAIN = "from vitpareto.search.cli import main; main()"
BRIEFLY = f"""
import sys
sys.path.append({str(ROOT)!r})
from tests.shared import few_rounds
from vitpareto.search.cli import main
with few_rounds():
    main()
"""


def vitpareto(
    python: Path, folder: Path, *words: str, code: str = MAIN
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-c", code, *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.onnx
@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_with_everything_of_the_plugin(python: Path, tmp_path: Path, workers: int) -> None:
    (tmp_path / "holes.yaml").write_text(SPACE)
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(DEVICE))
    run = RUN | {"executor": {"threads": 1, "workers": workers}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    words = ("search", "run.yaml", "--run-dir", "run", "--json")
    done = vitpareto(python, tmp_path, *words, code=BRIEFLY)
    # So little training and measuring may leave a check unmet, which is not at issue here.
    assert done.returncode in (0, 3), done.stderr
    delivered = json.loads(done.stdout)
    assert delivered and all(model["device"]["runtime"] == "plain_ort" for model in delivered)
    lines = (tmp_path / "run/evaluations.jsonl").read_text().splitlines()
    scored = [json.loads(line) for line in lines]
    told = json.dumps(scored)
    assert len(scored) > 10 and '"dilated"' in told and '"ternary": true' in told
    groups = json.loads((tmp_path / "run/cost_model.json").read_text())["groups"]
    assert any(name.startswith("mixer/dilated") for name in groups)
    again = vitpareto(python, tmp_path, "verify", "run", "--json", code=BRIEFLY)
    assert again.returncode in (0, 3), again.stderr
    assert {report["key"] for report in json.loads(again.stdout)} == {m["key"] for m in delivered}
    page = (tmp_path / "run/report.html").read_text()
    assert all(model["key"] in page for model in delivered)


# LiteRT has no running sum.
FEW = re.sub(r" +(kernel_size|dilation|ternary): .*\n", "", SPACE).replace("dilated", "causal_mean")


@pytest.mark.slow  # `runnable`, what is recorded of it, and the test below are quicker
@pytest.mark.onnx
def test_a_search_goes_without_what_its_runtime_refuses(python: Path, tmp_path: Path) -> None:
    """The search ends all the same, and never proposes it."""
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "holes.yaml").write_text(FEW)
    run = RUN | {"device": {"name": "cpu-litert", "calibrate_s": 1}}
    run["search"] = {"trials": 12, "sampler": "random"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    done = vitpareto(python, tmp_path, "search", "run.yaml", "--run-dir", "run", "--json")
    assert done.returncode in (0, 3), done.stderr
    line = "space: cpu-litert cannot execute, and so is left out: mixer causal_mean (LiteRT: "
    assert line in done.stderr and "operator CumSum" in done.stderr
    for name in ("space.yaml", "evaluations.jsonl", "cost_model.json"):
        assert "causal_mean" not in (tmp_path / "run" / name).read_text()
    assert "mixer causal_mean" in (tmp_path / "run/report.html").read_text()


@pytest.mark.onnx
def test_a_search_ends_where_its_runtime_refuses_everything(python: Path, tmp_path: Path) -> None:
    """Before anything is made."""
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "holes.yaml").write_text(FEW.replace("[softmax, causal_mean]", "causal_mean"))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN | {"device": {"name": "cpu-litert"}}))
    done = vitpareto(python, tmp_path, "search", "run.yaml", "--run-dir", "other")
    assert done.returncode == 2 and not (tmp_path / "other").exists()
    (error,) = [row for row in done.stderr.splitlines() if row.startswith("Error: ")]
    assert "mixer causal_mean" in error and "operator CumSum" in error
    assert "The nearest that it can: mixer " in error


def test_without_the_plugin_its_names_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(DEVICE))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN | {"space": "digits"}))
    done = vitpareto(Path(sys.executable), tmp_path, "search", "run.yaml", "--dry-run")
    assert done.returncode == 2
    assert "unknown sampler 'pareto-local'" in done.stderr or "'pareto-local'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
