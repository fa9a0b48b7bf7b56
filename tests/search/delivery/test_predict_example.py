"""The program beside an artifact classifies a real digit with three packages and no more."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from vitpareto.search.delivery.deliver import attempt
from vitpareto.search.delivery.predict_example import PROGRAM
from vitpareto.spaces import Policy

from ..made import Made, everywhere

# Anything outside of the standard library and the three packages cannot be imported.
ALONE = """
import runpy, sys

class Fence:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("onnxruntime", "numpy", "PIL"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Fence())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_it_is_ten_lines() -> None:
    code = [line for line in PROGRAM.splitlines()[1:] if line]
    assert len(code) == 10


def right_answers(command: list[str | Path], folder: Path) -> int:
    """On how many of ten real digits a program is right; `command` lacks only the image."""
    pixels, labels = load_digits(return_X_y=True)
    right = 0
    for index in range(0, 60, 6):
        image = Image.fromarray((pixels[index].reshape(8, 8) / 16 * 255).astype("uint8"))
        image.save(folder / "digit.png")
        done = subprocess.run(
            [*command, folder / "digit.png"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        right += done.stdout.strip() == str(labels[index])
    return right


@pytest.mark.onnx
def test_it_classifies_real_digits(made: Made, tmp_path: Path) -> None:
    folder = made.deliver(tmp_path / "pareto", made.candidate)
    assert right_answers([sys.executable, "-c", ALONE, folder / "predict.py"], tmp_path) >= 9


@pytest.mark.slow
@pytest.mark.onnx
def test_it_needs_three_packages(made: Made, tmp_path: Path) -> None:
    """The same in a virtual environment that has nothing else."""
    home = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    python = home / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "onnxruntime", "numpy", "pillow"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no package index: {done.stderr.splitlines()[-1]}")
    ours = subprocess.run([python, "-c", "import vitpareto"], capture_output=True, check=False)
    assert ours.returncode
    for policy in (Policy(), Policy(8, 8)):
        candidate = everywhere(made.candidate, policy)
        build = made.terms().build(candidate, made.network)
        attempt(tmp_path / candidate.key, build, 0.0, made.terms())
        assert right_answers([python, tmp_path / candidate.key / "predict.py"], tmp_path) >= 8


@pytest.mark.onnx
def test_without_the_fence_down_our_package_is_out_of_reach(tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text("import vitpareto.search")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, tmp_path / "ours.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ModuleNotFoundError: vitpareto" in done.stderr
