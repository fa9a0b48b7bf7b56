"""The program beside a model sees what verification saw, with three packages and no more."""

import ast
import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from vitpareto.cost_models import Device
from vitpareto.search.data.augment import Norm
from vitpareto.search.data.dataset import Split, resized
from vitpareto.search.data.pixels import FITS, Look, open_image, to_pixels
from vitpareto.search.delivery import handover
from vitpareto.search.delivery.artifact import Artifact
from vitpareto.search.delivery.holding import attempt
from vitpareto.search.delivery.manifest import manifests, read_manifest
from vitpareto.search.delivery.preprocessing import Preprocessing
from vitpareto.search.delivery.program import (
    executorch,
    litert,
    mnn,
    ncnn,
    onnxruntime,
    openvino,
    predict,
)
from vitpareto.search.delivery.program import torch as torch_part
from vitpareto.search.delivery.program.assemble import program
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces import Policy

from ...shared import everywhere, needs_runtime
from ..made import Made, copy_of_int8

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


FENCED = [sys.executable, "-W", "error", "-c", ALONE]
CPU = Device.load("cpu-1t")
PARTS = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "litert": litert,
    "ncnn": ncnn,
    "executorch": executorch,
    "mnn": mnn,
    "torch": torch_part,
}
# Tensors of the files that are named in about.json, by the functions of a program.
TENSORS = """
import json, pathlib, runpy, numpy
here = pathlib.Path(__file__).parent
program = runpy.run_path(str(here / "predict.py"))
asked = json.loads((here / "about.json").read_text())
tensors = [program["tensor"](here / name, about) for name, about in asked]
numpy.savez(here / "tensors.npz", *tensors)
"""


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_it_is_one_file_that_says_each_thing_once(part: ModuleType) -> None:
    tree = ast.parse(program(CPU, part))
    named = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    named += [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    assert len(named) == len(set(named)) and {"to_pixels", "main", "THREADS"} <= set(named)
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert imported and not any(node.level for node in imported)


def test_it_runs_as_it_was_measured() -> None:
    device = replace(CPU, threads=3, provider="CUDAExecutionProvider")
    tree = ast.parse(program(device, onnxruntime))
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.targets[0], ast.Name)
    }
    assert (values["THREADS"], values["PROVIDER"]) == (3, "CUDAExecutionProvider")


def test_what_tensorrt_leaves_over_is_for_whom_it_was_measured_with() -> None:
    device = replace(CPU, provider="TensorrtExecutionProvider")
    (line,) = (x for x in program(device, onnxruntime).splitlines() if x.startswith("PROVIDERS"))
    named = [name for name, _ in ast.literal_eval(line.partition(" = ")[2])]
    assert named == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]


def test_folders_behind_links_are_looked_into_once(tmp_path: Path) -> None:
    """As the search does; a link to a folder above it leads nowhere."""
    for name in ("photos/cat/1.png", "elsewhere/2.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    (tmp_path / "photos/dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/cat/up").symlink_to(tmp_path / "photos")
    found = [str(f.relative_to(tmp_path)) for f in predict.files_of(tmp_path / "photos")]
    assert found == ["photos/cat/1.png", "photos/dog/2.png"]


def files(folder: Path) -> Iterator[Path]:
    """Photos in every mode, orientation and format of note."""
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    photo = small.resize((123, 87), Image.Resampling.BICUBIC)
    deep = Image.fromarray(random.integers(0, 65536, (87, 40), dtype=np.uint16))

    def saved(name: str, image: Image.Image, **options: object) -> Path:
        image.save(folder / name, **options)
        return folder / name

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield saved(f"{orientation}.jpg", photo, exif=exif)
        yield saved(f"{orientation}.png", photo, exif=exif)
    yield saved("large.jpg", small.resize((1500, 700), Image.Resampling.BICUBIC))
    yield saved("ink.jpg", photo.convert("CMYK"))
    for mode in ("1", "L", "LA", "RGBA"):
        alpha = photo.convert("L") if "A" in mode else None
        image = photo.convert(mode)
        if alpha:
            image.putalpha(alpha)
        yield saved(f"mode {mode}.png", image)
    yield saved("P.png", photo.quantize(30), transparency=bytes(range(0, 240, 8)))
    yield saved("first.gif", photo, save_all=True, append_images=[photo.rotate(90)])
    yield saved("16.png", deep)
    yield saved("16.tif", deep)
    for mode in ("LAB", "F", "I"):
        yield saved(f"{mode}.tif", photo.convert("L" if mode in "FI" else "RGB").convert(mode))


@pytest.mark.parametrize("channels", [1, 3])
def test_its_tensors_are_those_of_verification(tmp_path: Path, channels: int) -> None:
    """Bit by bit; where a candidate takes smaller images, to a rounding of float32."""
    norm = Norm((0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels])
    names = tuple("ab")
    asked: list[tuple[str, dict]] = []
    wanted: list[tuple[bool, torch.Tensor]] = []
    for path in files(tmp_path):
        for fit in FITS:
            for size, input_size in ((48, 48), (48, 31), (16, 24), (224, 160)):
                look = Look(size, channels, fit)
                about = Preprocessing(norm.mean, norm.std, names, look).to_dict()
                asked.append((path.name, about | {"input_size": input_size}))
                pixels = torch.from_numpy(to_pixels(open_image(path), look))
                wanted.append((size == input_size, resized(norm(pixels[None]), input_size)[0]))
    (tmp_path / "about.json").write_text(json.dumps(asked))
    (tmp_path / "predict.py").write_text(program(CPU, onnxruntime), encoding="utf-8")
    (tmp_path / "tensors.py").write_text(TENSORS)
    subprocess.run([*FENCED, tmp_path / "tensors.py"], check=True)
    with np.load(tmp_path / "tensors.npz") as found:
        for (same_size, tensor), ours in zip(wanted, found.values(), strict=True):
            assert ours.dtype == np.float32
            if same_size:
                assert (ours == tensor.numpy()).all()
            else:
                assert np.abs(ours - tensor.numpy()).max() <= 1e-6


@pytest.mark.parametrize(("arguments", "status"), [(["-h"], 0), ([], 2), (["--what"], 2)])
def test_it_says_how_it_is_used(tmp_path: Path, arguments: list[str], status: int) -> None:
    (tmp_path / "predict.py").write_text(program(CPU, onnxruntime), encoding="utf-8")
    command = [sys.executable, tmp_path / "predict.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stderr if status else done.stdout
    assert done.returncode == status and said.startswith("usage: predict.py [-h] [-k TOP]")
    assert "Traceback" not in done.stderr


@pytest.mark.onnx
def test_many_images_of_which_some_are_damaged(made: Made, tmp_path: Path) -> None:
    """The others are answered as the artifact answers, whatever the batch."""
    batch = replace(made.terms(), device=replace(made.device, batch=4))
    build = batch.build(made.candidate, made.network)
    attempt(tmp_path / "model", build, 0.0, batch)
    photos = tmp_path / "photos"
    (photos / "deeper").mkdir(parents=True)
    digits = load_digits().images[:6] / 16 * 255
    for index, digit in enumerate(digits):
        folder = photos / "deeper" if index > 3 else photos
        Image.fromarray(digit.astype("uint8")).save(folder / f"{index}.png")
    (photos / ".hidden.png").write_bytes(b"")
    (photos / "notes.txt").write_text("no image")
    (photos / "2b.jpg").write_bytes((photos / "2.png").read_bytes()[:60])
    (tmp_path / "empty").mkdir()
    asked = [photos, tmp_path / "empty", tmp_path / "none.jpg", photos / "0.png"]
    command = [*FENCED, tmp_path / "model" / "predict.py", *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{photos / '2b.jpg'}: damaged",
        f"{tmp_path / 'empty'}: no images in this folder",
        f"{tmp_path / 'none.jpg'}: no such file or directory",
    ]
    told = [line.split("\t") for line in done.stdout.splitlines()]
    inside = [photos / "deeper" / "4.png", photos / "deeper" / "5.png"]
    order = [*(photos / f"{i}.png" for i in range(4)), *inside, photos / "0.png"]
    assert [line[0] for line in told] == list(map(str, order))
    norm = Norm(made.data.mean, made.data.std)
    pixels = np.stack([to_pixels(open_image(file), made.data.look) for file in order])
    split = Split(norm(torch.from_numpy(pixels)), torch.zeros(len(order), dtype=torch.long))
    shares = Artifact.load(tmp_path / "model", batch.device).logits(split).softmax(1)
    for line, row in zip(told, shares, strict=True):
        best = row.argsort(descending=True)[:3].tolist()
        assert line[1::2] == [made.data.class_names[i] for i in best]
        assert [float(share) for share in line[2::2]] == pytest.approx(row[best].tolist(), abs=6e-4)


@pytest.fixture(scope="module")
def run(made: Made, verified: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A verified run of one model of 8 bits, and its validation images as photos/CLASS/*.png."""
    path = copy_of_int8(verified, made, tmp_path_factory.mktemp("run") / "run")
    folder = RunFolder(path, lock=False)
    split, photos = made.data.split("validation"), path / "photos"
    mean, std = (torch.tensor(x)[:, None, None] for x in (made.data.mean, made.data.std))
    pixels = ((split.images * std + mean) * 255).round().byte().numpy()
    for index, (image, label) in enumerate(zip(pixels, split.labels.tolist(), strict=True)):
        (photos / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(photos / str(label) / f"{index:04}.png")
    return SimpleNamespace(pareto=folder.pareto, photos=photos)


def answers(words: list[str | Path]) -> tuple[list[dict], str]:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.strip()


@pytest.mark.parametrize("runtime", PARTS)
@pytest.mark.onnx
def test_its_answers_are_those_that_were_checked(
    made: Made, run: SimpleNamespace, tmp_path: Path, runtime: str
) -> None:
    """In a fresh process: each probability, and the accuracy that the manifest names."""
    needs_runtime(runtime)
    (chosen,) = manifests(run.pareto)
    path = handover.export_picked(run.pareto, lambda: made.data, chosen, runtime, tmp_path)
    manifest = read_manifest(path.parent)
    assert "predict.py" in manifest.files
    fence = ALONE.replace('"onnxruntime"', f'"{runtime}"')
    command = [sys.executable, *(["-c", fence] if runtime == "onnxruntime" else [])]
    command += [path.with_name("predict.py"), run.photos, "--json", "-k", "10", "--evaluate"]
    told, said = answers(command)
    split = made.data.split("validation")
    shares = Artifact.load(path.parent, manifest.device).logits(split).softmax(1)
    assert len(told) == len(split)
    for about in told:
        index = int(Path(about["path"]).stem)
        assert about["label"] == str(split.labels[index].item())
        found = {each["class"]: each["probability"] for each in about["classes"]}
        wanted = dict(zip(made.data.class_names, shares[index].tolist(), strict=True))
        assert found == pytest.approx(wanted, abs=2e-6)
    share = (manifest.answers or manifest.measured()).accuracy
    right = round(share * len(split))
    last = said.splitlines()[-1]  # runtimes say things of their own
    assert last.startswith(f"accuracy {share:.1%}: {right} of {len(split)} images are right; mean")


@pytest.mark.onnx
def test_tables_and_labels(run: SimpleNamespace, tmp_path: Path) -> None:
    model = next(run.pareto.iterdir())
    ours = tmp_path / "3"
    ours.mkdir()
    (ours / "5").mkdir()
    first = sorted((run.photos / "3").iterdir())[0]
    for copy in (ours / "a,b.png", ours / "5" / "c.png", tmp_path / "d.png"):
        copy.write_bytes(first.read_bytes())
    command = [sys.executable, model / "predict.py", "--csv", "-k", "2"]
    done = subprocess.run([*command, ours], capture_output=True, text=True, check=True)
    rows = list(csv.reader(done.stdout.splitlines()))
    assert rows[0] == ["path", "class", "probability", "class_2", "probability_2"]
    assert [row[0] for row in rows[1:]] == [str(ours / "5" / "c.png"), str(ours / "a,b.png")]
    words = [*command, "--evaluate", ours, tmp_path / "d.png", ours / "a,b.png"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    rows = list(csv.reader(done.stdout.splitlines()))
    assert rows[0][:3] == ["path", "label", "class"]
    assert [row[:2] for row in rows[1:]] == [[str(ours / "a,b.png"), "3"]] * 2
    assert done.returncode == 1
    assert done.stderr.splitlines()[:2] == [
        f"{ours / '5' / 'c.png'}: in folders of several classes: 3, 5",
        f"{tmp_path / 'd.png'}: in no folder that is named as a class",
    ]


@pytest.mark.onnx
def test_its_help_says_what_was_measured(run: SimpleNamespace, tmp_path: Path) -> None:
    (manifest,) = manifests(run.pareto)
    program_file = run.pareto / manifest.key / "predict.py"
    alone = tmp_path / "predict.py"
    alone.write_text(program_file.read_text())
    for file, words in ((program_file, manifest.status), (alone, "whether it was verified is not")):
        done = subprocess.run([sys.executable, file, "-h"], capture_output=True, text=True)
        assert words in " ".join(done.stdout.split())


def test_a_missing_runtime_is_one_line(tmp_path: Path) -> None:
    """Each part says what pip installs."""
    for part in PARTS.values():
        (tmp_path / "predict.py").write_text(program(CPU, part), encoding="utf-8")
        name = part.NEEDS.split()[0].replace("-", "_")
        code = f"import sys; sys.modules[{name!r}] = None\n" + ALONE
        words = [sys.executable, "-c", code, tmp_path / "predict.py", "a.png"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr == f"needs {name}: pip install {part.NEEDS} numpy pillow\n"


def test_mistakes_on_its_command_line(tmp_path: Path) -> None:
    (tmp_path / "predict.py").write_text(program(CPU, onnxruntime), encoding="utf-8")
    for words, message in (
        (["-k", "0"], "need a whole number above 0, got '0'"),
        (["--threads", "x"], "need a whole number above 0, got 'x'"),
        (["--json", "--csv"], "not allowed with argument --json"),
    ):
        command = [sys.executable, tmp_path / "predict.py", "a.png", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and message in done.stderr


@pytest.mark.onnx
def test_a_model_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "predict.py").write_text(program(CPU, onnxruntime), encoding="utf-8")
    command = [sys.executable, tmp_path / "predict.py", "a.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"{tmp_path / 'model.onnx'}: cannot be opened: ")


def right_answers(command: list[str | Path], folder: Path) -> int:
    """On how many of ten real digits a program is right; `command` lacks only the images."""
    pixels, labels = load_digits(return_X_y=True)
    files = [folder / f"digit {index}.png" for index in range(0, 60, 6)]
    for file, index in zip(files, range(0, 60, 6), strict=True):
        image = Image.fromarray((pixels[index].reshape(8, 8) / 16 * 255).astype("uint8"))
        image.save(file)
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = [line.split("\t")[1] for line in done.stdout.splitlines()]
    return sum(
        word == str(labels[index]) for word, index in zip(told, range(0, 60, 6), strict=True)
    )


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
