"""The start: a trained network of others, fitted to a space and to the images of a run.

It is converted to a `Network`, whose logits are compared with the original's, given the image and
patch size of the space that are nearest to its own, made to see the pixels of the run as its own
training saw them, and given a head with the classes of the run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ...spaces import Architecture, Candidate, SearchSpace
from ...spaces.convert import from_model
from ...spaces.errors import RunError, SpaceError
from ...spaces.networks import Network
from ...spaces.networks.refit import resized_network, with_branches, with_classes, with_pixels
from ..config import StartConfig
from ..data.augment import Norm
from ..data.dataset import Data
from ..data.sources.classes import by_look, look, read_names, repeated
from ..data.sources.listing import some
from ..store.atomic_files import write_atomic
from ..training.ready_teacher import Judgment, judge_answers
from ..training.teacher import Teacher
from .models import open_model
from .pixels import pixels_of

CANDIDATE = "candidate"  # metadata of the file that keeps a start
TOKENS, IMAGES = 32_768, (64, 512)  # of a library: wanted, and at least and at most
NUMBERS = ("num_heads", "head_dim", "mlp_hidden")  # of a block, that make a network larger


@dataclass(frozen=True)
class Start:
    """A trained network of others, converted.

    Attributes:
        name: of the configuration.
        network: with its own image size, channels and classes.
        norm: mean and deviation of the pixels that it has learned from.
    """

    name: str
    network: Network
    norm: Norm

    @property
    def outputs(self) -> int:
        """Number of classes that it knows."""
        return self.network.architecture.num_classes


def open_start(config: StartConfig) -> Start:
    """Load a start with its weights, and convert it.

    Raises:
        RunError: no such model, or weights that cannot be had or do not fit.
        SpaceError: a model without a counterpart in our vocabulary.
    """
    model = open_model(config.model, checkpoint=config.checkpoint, section="start")
    try:
        network = from_model(model)
    except SpaceError as error:
        raise SpaceError(f"start.model: {config.model}: {error}") from None
    channels = network.architecture.in_chans
    given = Norm(config.mean, config.std) if config.mean else None
    norm = given or pixels_of(model, config.model, channels)
    if len(norm.mean) != channels:
        raise RunError(
            f"start.mean: {config.model} takes images of {channels} channel(s), "
            f"got {len(norm.mean)} number(s)"
        )
    return Start(config.model, network, norm)


def place(start: Start, space: SearchSpace) -> Architecture:
    """The start's architecture in a space, of which it is the largest network.

    Args:
        start: whose image and patch size may differ.
        space: with the channels and classes of the images.

    Raises:
        SpaceError: the start is larger or smaller than the space, or of another kind.
    """
    largest = space.largest().architecture
    own = replace(
        start.network.architecture, in_chans=largest.in_chans, num_classes=largest.num_classes
    )
    near = space.repair(Candidate.uncompressed(own)).architecture
    sizes = {"input_size": near.input_size, "patch_size": near.patch_size}
    own = replace(own, **sizes, reparam=near.reparam)
    near = space.repair(Candidate.uncompressed(own)).architecture
    for what, have, other in (*_differences(own, near), *_differences(own, largest)[:1]):
        size = "larger" if have > other else "smaller"
        raise SpaceError(
            f"start.model: {start.name} has {what} {have}, the largest network of the space "
            f"{space.name!r} {other}: the start is {size} than the space; set space to auto, or "
            "the space to the start's sizes"
        )
    if own != near:
        what, have, other = _first_difference(own, near)
        raise SpaceError(
            f"start.model: {start.name} is not in the space {space.name!r}, whose nearest network "
            f"has another {what}: {_short(other)} instead of {_short(have)}; add that choice, or "
            "set space to auto"
        )
    return own


def norm_for(start: Start | None, space: SearchSpace) -> Norm | None:
    """Mean and deviation by which all networks of a run see pixels; None where any will do.

    A stem that sees the border of images fills it with zeros, which are pixels of the mean that it
    has learned from. No other weights make them so for pixels that are normalized otherwise.

    Args:
        start: of the run, if it has one.
        space: with the channels of the images.

    Raises:
        SpaceError: it has another number of channels than the images.
    """
    largest = space.largest().architecture
    if start is None or largest.stem == "patch":
        return None
    channels = len(start.norm.mean)
    if channels != largest.in_chans:
        raise SpaceError(
            f"start.model: {start.name}: the border that its stem sees has the mean of each of its "
            f"{channels} channel(s), and the images have {largest.in_chans}: only a patch "
            "embedding without a border can take others"
        )
    return start.norm


def fit(start: Start, config: StartConfig, space: SearchSpace, data: Data) -> tuple[Network, bool]:
    """The start with the sizes of a space, and the pixels and classes of the data.

    Returns:
        The network, and whether it knows all classes.

    Raises:
        RunError: it does not know all classes, although it is taken as it is; or `start.classes`
            does not name its outputs.
        SpaceError: as `place`, or it cannot be resized, or takes other channels.
    """
    target = place(start, space)
    rows = class_rows(start, config, data.class_names)
    if not config.adapt.epochs and None in rows:
        unknown = [n for n, row in zip(data.class_names, rows, strict=True) if row is None]
        raise RunError(
            f"start.adapt.epochs: {start.name} does not know {len(unknown)} of the "
            f"{len(rows)} classes, such as {unknown[0]!r}, and 0 takes it as it is: name its "
            "classes with start.classes, or adapt it"
        )
    try:
        network = resized_network(start.network, target.input_size, target.patch_size)
        network = with_pixels(network, *_pixels(start, data), data.in_chans)
        network = with_branches(network) if target.reparam else network
    except SpaceError as error:
        raise SpaceError(f"start.model: {start.name}: {error}") from None
    return with_classes(network, rows), None not in rows


def check_start(
    start: Start, config: StartConfig, space: SearchSpace, data: Data
) -> Judgment | None:
    """Compare the answers of a start with labels of validation images, if it knows the classes.

    Returns:
        How far they agree; None for a start with other classes.

    Raises:
        RunError: it is taken as it is, and no better than chance or has the classes in another
            order; or as `fit`.
    """
    network, knows = fit(start, config, space, data)
    if not knows:
        return None
    found = judge_answers(teacher_of(network), data, "start")
    if not config.adapt.epochs:
        found.require(
            "start", data.class_names, "start.classes", "its own pixels are not start.mean and std"
        )
    return found


def _pixels(start: Start, data: Data) -> tuple[list[float], list[float]]:
    """Scale and shift of each channel, from the pixels of the data to those of the start.

    It has learned from (x * std + mean - own mean) / own std.
    """
    channels = len(start.norm.mean)
    mean, std = (v * channels if len(v) == 1 else v for v in (data.mean, data.std))
    scale = [s / own for s, own in zip(std, start.norm.std, strict=False)]
    pairs = zip(mean, start.norm.mean, start.norm.std, strict=False)
    return scale, [(m - own) / s for m, own, s in pairs]


def class_rows(start: Start, config: StartConfig, class_names: Sequence[str]) -> list[int | None]:
    """The output of the start for each class of the data, None for classes that it does not know.

    Raises:
        RunError: `start.classes` cannot be read, names another number of classes, or does not say
            which one a class of the data is.
    """
    if not config.classes:
        same = start.outputs == len(class_names)
        return [i if same else None for i in range(len(class_names))]
    names, classes = read_names(Path(config.classes), "start.classes"), {*class_names}
    if len(names) != start.outputs:
        raise RunError(
            f"start.classes: {config.classes} names {len(names)} classes, {start.name} has "
            f"{start.outputs} outputs"
        )
    if twice := [name for name in repeated(names) if name in classes]:
        raise RunError(f"start.classes: {config.classes}: holds {some(twice)} twice")
    outputs = {name: i for i, name in enumerate(names)}
    others = by_look(name for name in names if name not in classes)
    for name in class_names:
        if name not in outputs and (other := others.get(look(name))):
            raise RunError(
                f"start.classes: {config.classes}: it holds {other!a}, the class is {name!a}"
            )
    return [outputs.get(name) for name in class_names]


def teacher_of(network: Network) -> Teacher:
    """A network as a teacher, which takes images of any size."""
    teacher = Teacher(network.architecture)
    teacher.load_state_dict(network.state_dict())
    return teacher.eval()


def typical_images(data: Data, architecture: Architecture) -> Tensor:
    """Train images on which a start is imitated."""
    return data.split("train").some(imitated_on(architecture)).images


def imitated_on(architecture: Architecture) -> int:
    """Number of images on which a start is imitated: they give some ten thousand tokens."""
    few, most = IMAGES
    return min(most, max(few, TOKENS // architecture.grid**2))


def save_network(path: Path, network: Network) -> None:
    """Write weights and architecture into one file."""
    about = Candidate.uncompressed(network.architecture).to_json()
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_atomic(path, save(state, {CANDIDATE: about}))


def load_network(path: Path) -> Network:
    """Inverse of `save_network`.

    Raises:
        RunError: the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            candidate = Candidate.from_json((file.metadata() or {})[CANDIDATE])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = Network(candidate.architecture)
        network.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from error
    return network.eval()


def _differences(own: Architecture, other: Architecture) -> list[tuple[str, int, int]]:
    """Sizes in which two networks differ: what, in one, in the other."""
    if len(own.stages) != len(other.stages):
        return [("stages:", len(own.stages), len(other.stages))]
    found: list[tuple[str, int, int]] = []
    for i, (a, b) in enumerate(zip(own.stages, other.stages, strict=True)):
        where = f" in stage {i}" if len(own.stages) > 1 else ""
        found.append((f"width{where}", a.width, b.width))
        found.append((f"depth{where}", len(a.blocks), len(b.blocks)))
        for j, (x, y) in enumerate(zip(a.blocks, b.blocks, strict=False)):
            for name in NUMBERS if x.mixer == y.mixer else NUMBERS[-1:]:
                found.append((f"{name} in block {j}{where}", getattr(x, name), getattr(y, name)))
    return [(what, have, other) for what, have, other in found if have != other]


def _first_difference(own: object, other: object, at: str = "") -> tuple[str, object, object]:
    """The first leaf in which two unequal parts of networks differ: where, in one, in the other."""
    if is_dataclass(own):
        for field in fields(own):
            a, b = getattr(own, field.name), getattr(other, field.name)
            if a != b:
                return _first_difference(a, b, f"{at}.{field.name}".lstrip("."))
    if isinstance(own, tuple) and isinstance(other, tuple) and len(own) == len(other):
        for i, (a, b) in enumerate(zip(own, other, strict=True)):
            if a != b:
                return _first_difference(a, b, f"{at}.{i}")
    return at, own, other


def _short(value: object) -> str:
    return f"{value!r:.80}"
