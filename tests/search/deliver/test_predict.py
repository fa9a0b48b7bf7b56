"""The program beside an artifact classifies a real digit with three packages and no more."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from vitpareto.search.predict_example import PROGRAM

from .conftest import Made

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


@pytest.mark.onnx
def test_it_classifies_real_digits(made: Made, tmp_path: Path) -> None:
    folder = made.deliver(tmp_path / "pareto", made.candidate)
    pixels, labels = load_digits(return_X_y=True)
    right = 0
    for index in range(0, 60, 6):
        image = Image.fromarray((pixels[index].reshape(8, 8) / 16 * 255).astype("uint8"))
        image.save(tmp_path / "digit.png")
        done = subprocess.run(
            [sys.executable, "-c", ALONE, folder / "predict.py", tmp_path / "digit.png"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        right += done.stdout.strip() == str(labels[index])
    assert right >= 9


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
