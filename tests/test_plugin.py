"""A separate package adds to the product, which does not know its names."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .shared import made_once

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "tests" / "plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example plugin, installed from a copy so that nothing is left in the tree."""

    def install(folder: Path) -> None:
        ignore = shutil.ignore_patterns("__pycache__")
        source = shutil.copytree(PLUGIN, folder / "plugin", ignore=ignore)
        options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
        command = [sys.executable, "-m", "pip", "install", *options, "--no-build-isolation"]
        command += ["--target", str(folder / "site"), str(source)]
        subprocess.run(command, capture_output=True, check=True)

    return made_once(tmp_path_factory, "plugin", install) / "site"


def run(arguments: list[str], site: Path, folder: Path) -> str:
    """Standard output of a Python that has the plugin installed."""
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_nothing_here_knows_its_names() -> None:
    names = [path.stem for path in (PLUGIN / "vitpareto_example").glob("[!_]*.py")]
    assert {"dilated", "ternary", "local_search", "plain_ort"} <= {*names}
    for folder in ("spaces", "cost_models", "search", "configs"):
        for path in (ROOT / folder).rglob("*.*"):
            if path.suffix in (".py", ".yaml") and path.name != "contract.py":
                assert not [name for name in names if name in path.read_text()], path


LAWS = """
from vitpareto.cost_models.graphs.contract import MixerCostContract
from vitpareto.spaces.contract import MixerContract

class TestDilated(MixerContract, MixerCostContract):
    name = "dilated"
    fields = "{kernel_size: [3, 5], dilation: [1, 2, 3], layer_scale: true}"
"""


@pytest.mark.onnx
def test_the_laws_of_mixers(site: Path, tmp_path: Path) -> None:
    """As the plugin's own tests would check them."""
    (tmp_path / "test_dilated.py").write_text(LAWS)
    options = ["-q", "-p", "no:cacheprovider", "-W", "error"]
    out = run(["-m", "pytest", *options, "test_dilated.py"], site, tmp_path)
    assert "15 passed" in out


SPACE = """
name: holes
input_size: 32
patch_size: 4
num_classes: 5
global_pool: avg
num_heads: 2
stages:
  - depth: [1, 2]
    width: [16, 32]
    blocks:
      mixer: [softmax, mbconv, dilated]
      kernel_size: [3, 5]
      dilation: [1, 2]
      mlp_ratio: [1.0, 2.0]
forbidden:
  - {mixer: dilated, kernel_size: 5, dilation: 2}
"""
SEARCHED = f"""
import sys
from pathlib import Path
import torch
sys.path.append({str(ROOT)!r})
from tests.shared import few_rounds
from vitpareto.cost_models import CostModel, Device, calibrate
from vitpareto.cost_models.measure.capabilities import examples
from vitpareto.search.report.drawing import draw
from vitpareto.search.scoring.candidate_features import Traits
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.supernet import Supernet

space = SearchSpace.from_yaml("holes.yaml")
# Widths, and for each block: attention, or MBConv or dilated with what each reads.
block = 2 * (1 + 2 + (2 * 2 - 1))
assert space.size == 2 * (block + block**2), space.size
candidates = space.sample(60, 1)
dilated = [c for c in candidates if any(b.mixer == "dilated" for b in c.architecture.blocks())]
assert any('"dilation":2' in c.to_json() for c in dilated)
assert all(Candidate.from_json(c.to_json()).key == c.key and c in space for c in candidates)
supernet = Supernet(space)
for candidate in dilated[:6]:
    supernet(candidate, torch.randn(2, 3, 32, 32)).square().sum().backward()
names = [name for name in supernet.params if ".dilated.dwconv" in name]
assert any(supernet.params[name].grad is not None for name in names) and len(names) == 4
device = Device.load("cpu-1t")
with few_rounds():
    calibrate(device, space, 1.0, out=Path("model.json"))
model = CostModel.load("model.json")
assert "mixer/dilated@float" in model.groups, model.groups
assert (model.predict(candidates).latency_ms > 0).all()
assert "dilated" in examples()
assert any("3x3, dilation 2" in draw(candidate, 600) for candidate in dilated)
assert any("dilation" in name for name in Traits(candidates).names)
print("searched")
"""


@pytest.mark.slow
@pytest.mark.onnx
def test_a_space_with_its_mixer(site: Path, tmp_path: Path) -> None:
    """Sampled, counted, shared, calibrated, predicted and drawn, beside the product's own."""
    (tmp_path / "holes.yaml").write_text(SPACE)
    assert "searched" in run(["-c", SEARCHED], site, tmp_path)


def test_without_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "holes.yaml").write_text(SPACE)
    code = "from vitpareto.spaces import SearchSpace, SpaceError\n"
    code += "try: SearchSpace.from_yaml('holes.yaml')\nexcept SpaceError as error: print(error)"
    out = run(["-c", code], tmp_path, tmp_path)
    assert "stages.0.blocks.mixer: no such value 'dilated'" in out.replace("blocks.0.", "blocks.")


@pytest.mark.onnx
def test_candidates_are_exported_for_its_runtime(site: Path, tmp_path: Path) -> None:
    """Though no device file names it."""
    main = ["-c", "from vitpareto.search.cli import main; main()"]
    drawn = run([*main, "space", "sample", "digits", "-n", "1", "--json"], site, tmp_path)
    (tmp_path / "c.json").write_text(drawn)
    words = ["export", "c.json", "--random-weights", "--runtime", "plain_ort", "--out", "app"]
    path = tmp_path / run([*main, *words], site, tmp_path).strip()
    assert path.name == "model.onnx" and path.is_file()
