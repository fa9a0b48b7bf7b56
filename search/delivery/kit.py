"""Kit: a folder that measures the delivered models of a run on the machine that they are for.

It holds the models as they were delivered, images with the answers that are expected to them,
sub-blocks to calibrate, and programs that need numpy and the runtime alone: `python run.py` there
measures everything, or for browsers a page that `python page.py` serves. `kit_results` takes the
results in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...cost_models import Device
from ...cost_models.calibration.bundle import copy_program, maker_of, package_of, write_sets
from ...cost_models.graphs.modules import input_shape
from ...cost_models.measure.bench import MODELS, ROUNDS, GraphMaker, TimedGraph, write_plan
from ...cost_models.runtimes import find_runtime
from ...cost_models.standalone import kit_files
from ...cost_models.standalone.seal import hashes_of, write_sealed
from ...cost_models.standalone.timing import IN_TURN
from ...spaces import SearchSpace
from ...spaces.errors import RunError
from ..data.dataset import Data, mixed, resized
from ..store.atomic_files import read_json
from ..store.run_folder import RunPaths
from .artifact import read_candidate, read_model
from .artifact_timing import twin_of
from .changed_files import changed_file
from .formats import format_of
from .handover import fill
from .kit_page import check_page, in_browser, write_page
from .kit_words import IN_BROWSER, on_machine, read_me, shell_script
from .manifest import Manifest, manifests, now
from .verify import rebuild

IMAGES_MB = 32  # of images in one size, which is as many as they need be
FEWEST = 8  # images that tell whether answers are the same
SUB_BLOCKS, NETWORKS = 200, 40  # to calibrate with
INPUTS, EXPECTED = "inputs", "expected"  # folders
README = "README.txt"
PHONE_FORMATS = ("tflite",)  # whose benchmark program is told an input and tells its answer
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Kit:
    """What a kit is made of.

    Attributes:
        run: folder.
        device: that the models are for.
        space: that was searched, whose sub-blocks are packed.
        data: images of the run.
        delivered: manifests of the models.
        sub_blocks: how many are packed at most; 0 for none.
        networks: whole networks that are packed beside them.
    """

    run: RunPaths
    device: Device
    space: SearchSpace
    data: Data
    delivered: Sequence[Manifest]
    sub_blocks: int = SUB_BLOCKS
    networks: int = NETWORKS


def pack(
    run: RunPaths,
    space: SearchSpace,
    data: Data,
    sub_blocks: int = SUB_BLOCKS,
) -> Kit:
    """What a kit of a run is made of, checked.

    Raises:
        RunError: nothing was delivered, or a file has changed since.
        CostError: nothing measures the runtime alone.
        MissingRuntimeError: it is one for browsers, which is not installed here.
    """
    delivered = manifests(run.pareto)
    for manifest in delivered:
        if changed := changed_file(run.pareto / manifest.key, manifest.files):
            raise RunError(f"{run.pareto / manifest.key / changed}: has changed since delivery")
        if manifest.exits:
            raise RunError(
                f"{run.pareto / manifest.key}: has exits, which kits do not measure: verify it "
                "where the run is"
            )
    device = delivered[0].device
    check_page(device) if in_browser(device) else package_of(device)
    return Kit(run, device, space, data, delivered, sub_blocks, NETWORKS if sub_blocks else 0)


def write_kit(kit: Kit, out: Path, progress: Progress | None = None) -> Path:
    """Write a kit.

    Args:
        kit: from `pack`.
        out: folder to make.
        progress: called with the share that is done, and what is being done.

    Returns:
        The folder.

    Raises:
        RunError: it exists, or a file cannot be written.
        MissingRuntimeError: sub-blocks of the runtime cannot be made here.
    """

    def make(folder: Path) -> str:
        models = _models(kit, folder)
        images = _images(kit)
        for key, about in models.items():
            _questions(kit, folder, key, about, images)
        if kit.sub_blocks:
            blocks, most = folder / kit_files.BLOCKS, kit.sub_blocks
            write_sets(kit.device, kit.space, blocks, most, kit.networks, 0, progress)
        _programs(kit, folder, models)
        _sealed(kit, folder, models, images)
        return kit_files.KIT

    return fill(out, make).parent


def _models(kit: Kit, folder: Path) -> dict[str, dict[str, Any]]:
    """Write the models in sets that are timed together; where each is, by key."""
    form, maker = format_of(kit.device), GraphMaker(maker_of(kit.device))
    models: dict[str, dict[str, Any]] = {}
    each = 2 if any(m.promised.was_measured for m in kit.delivered) else 1
    for start in range(0, len(kit.delivered), MODELS // each):
        chosen = kit.delivered[start : start + MODELS // each]
        part, graphs = f"{kit_files.MODELS}/{start:03d}", list[TimedGraph]()
        for index, manifest in enumerate(chosen):
            source = kit.run.pareto / manifest.key
            content, candidate = read_model(source / form.file, form), read_candidate(source)
            shape = input_shape(candidate, kit.device.batch)
            nodes = form.inspect(content, {}, kit.device.runtime).nodes
            graphs.append(
                TimedGraph("artifact", manifest.key, content, shape, 1, len(content), nodes)
            )
            name = f"{part}/{index}.{find_runtime(kit.device.runtime).format}"  # as in the plan
            size = candidate.architecture.input_size
            models[manifest.key] = {"set": part, "index": index, "file": name, "size": size}
        twins = [
            twin_of(maker, read_candidate(kit.run.pareto / m.key), m)
            for m in chosen
            if m.promised.was_measured
        ]
        (folder / part).mkdir(parents=True)
        write_plan(
            folder / part,
            kit.device,
            [*graphs, *twins, *maker.anchors],
            ROUNDS,
            start,
            [IN_TURN, IN_TURN],
            len(graphs),
        )
    return models


def _images(kit: Kit) -> list[int]:
    """Numbers of the validation images that are packed, all of them where they are small.

    They are mixed, as a phone answers the first ones alone, and folders are sorted by class.
    """
    count = kit.data.count("validation")
    sizes = [read_candidate(kit.run.pareto / m.key).architecture.input_size for m in kit.delivered]
    room = int(IMAGES_MB * 1e6) // (4 * kit.data.in_chans * max(sizes) ** 2)
    return mixed(count, max(FEWEST, room)).tolist()


def _questions(
    kit: Kit, folder: Path, key: str, about: dict[str, Any], images: Sequence[int]
) -> None:
    """Write the images that a model is asked about, and the answers that torch expects."""
    manifest = next(m for m in kit.delivered if m.key == key)
    split = kit.data.split("validation").at(torch.tensor(images))
    build = rebuild(kit.run.pareto / key, manifest, kit.device, kit.data)
    about["input"] = f"{INPUTS}/{about['size']}.npy"
    about["expected"] = f"{EXPECTED}/{key}.npy"
    for name in (INPUTS, EXPECTED):
        (folder / name).mkdir(exist_ok=True)
    pixels = resized(split.images, about["size"]).numpy()
    np.save(folder / about["input"], pixels)
    np.save(folder / about["expected"], build.logits(split).numpy())
    if on_phone(kit.device):
        _for_phones(folder / INPUTS / str(about["size"]), pixels, kit.device.batch)


def _for_phones(folder: Path, pixels: np.ndarray, batch: int) -> None:
    """Write the first images once more, as a benchmark program reads them: channels last, raw."""
    folder.mkdir(exist_ok=True)
    for run in range(min(FEWEST, len(pixels) // batch)):
        some = pixels[run * batch : (run + 1) * batch].transpose(0, 2, 3, 1)
        np.ascontiguousarray(some).tofile(folder / f"{run}.bin")


def _programs(kit: Kit, folder: Path, models: dict[str, dict[str, Any]]) -> None:
    """Write what runs there, and what to type."""
    if in_browser(kit.device):
        write_page(kit.device, folder)
        text = read_me(kit.delivered[0], IN_BROWSER, kit.run.path)
        (folder / README).write_text(text, encoding="utf-8")
        return
    others = {name: name for name in ("kit_files", "runner", "seal")} | {"kit_runner": "run"}
    if on_phone(kit.device):
        others["phone"] = "phone"
        script = folder / "run.sh"
        shapes = {
            key: (*input_shape(read_candidate(kit.run.pareto / key), kit.device.batch),)
            for key in models
        }
        script.write_text(shell_script(kit.device, models, shapes), encoding="utf-8")
        script.chmod(0o755)
    copy_program(kit.device, folder, others)
    how = on_machine(kit.delivered[0], package_of(kit.device), on_phone(kit.device))
    text = read_me(kit.delivered[0], how, kit.run.path)
    (folder / README).write_text(text, encoding="utf-8")


def _sealed(
    kit: Kit, folder: Path, models: dict[str, dict[str, Any]], images: Sequence[int]
) -> None:
    """Write kit.json, with the hash of every other file."""
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    body = {
        "format": kit_files.KIT_FORMAT,
        "version": 1,
        "run": run_id(kit.run),
        "name": kit.run.path.resolve().name,
        "made": now(),
        "device": kit.device.to_dict(),
        "chip": kit.device.chip,
        "identity": dict(kit.delivered[0].identity),
        "images": list(images),
        "models": models,
        "files": hashes_of(folder, names),
    }
    write_sealed(folder / kit_files.KIT, body)


def on_phone(device: Device) -> bool:
    """Whether a kit can be measured on a phone without Python."""
    return format_of(device).file.endswith(PHONE_FORMATS) and not in_browser(device)


def run_id(run: RunPaths) -> str:
    """Identity of a run; empty where a release before 0.2 made it."""
    return read_json(run.environment).get("run", "")
