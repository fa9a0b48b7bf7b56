"""Layer-wise distillation: students are compared with the start where both go on alike."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vitpareto.search.compress.network import compressible
from vitpareto.search.config import FinishConfig
from vitpareto.search.data.dataset import Data
from vitpareto.search.library.layers import LayerLoss
from vitpareto.search.library.parts import Library
from vitpareto.search.library.repair import assemble
from vitpareto.search.library.slices import sliced
from vitpareto.search.library.start import Start, trace
from vitpareto.search.training.finetune import Finalist, FineTuning, train_alone
from vitpareto.search.training.forward import answer
from vitpareto.search.training.losses import Streams, stream_loss
from vitpareto.search.training.teacher import Lessons, make_lessons
from vitpareto.spaces import Architecture, Block, Candidate, SearchSpace, Stage
from vitpareto.spaces.errors import SpaceError
from vitpareto.spaces.networks import Network

from ..compress.helpers import images, random_network


def streams_of(network: Network, x: torch.Tensor) -> Streams:
    network = network.eval()
    candidate = Candidate.uncompressed(network.architecture)
    params = dict(network.named_parameters()) | dict(network.named_buffers())
    layers = compressible(network, candidate)
    assert answer(network, params, layers, x).streams is None
    found = answer(network, params, layers, x, inside=True).streams
    assert found
    return found


def loss_of(library: Library, network: Network, x: torch.Tensor) -> float:
    return LayerLoss.of(library, 1.0)(streams_of(network, x), x).item()


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rounding of products, so that equal is equal."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)


@pytest.mark.usefixtures("exact")
def test_the_start_has_nothing_to_learn_from_itself(library: Library, data: Data) -> None:
    x = data.split("train").images[:32]
    assert loss_of(library, library.start.network, x) < 1e-9
    assert pickle.loads(pickle.dumps(LayerLoss.of(library, 1.0))).weight == 1.0


@pytest.mark.usefixtures("exact")
def test_hybrids_are_compared_stage_by_stage() -> None:
    """Grids, windows and class tokens: the start is always equal to itself."""
    rest = {"head_dim": 8, "mlp_hidden": 32}
    stages = (
        Stage(16, (Block("mbconv", kernel_size=3, mlp_hidden=32),)),
        Stage(
            32, (Block(num_heads=4, **rest), Block("window", num_heads=4, window_size=2, **rest))
        ),
    )
    a = Architecture(
        stages, input_size=32, patch_size=4, num_classes=5, in_chans=1, stem="conv",
        pos_embed="none", global_pool="avg",
    )  # fmt: skip
    network = random_network(a)
    library = Library(Start.of(network, images(a, 16)))
    assert loss_of(library, network, images(a, 4)) < 1e-9
    with torch.no_grad():
        network.stages[1].blocks[0].mlp.fc2.bias.add_(1.0)  # type: ignore[union-attr]
    assert loss_of(library, network, images(a, 4)) > 1e-3


@pytest.mark.usefixtures("exact")
def test_a_block_answers_for_those_that_are_gone_after_it(library: Library, data: Data) -> None:
    """Against the definition, written out: where the next block that both have begins."""
    a, x = library.start.architecture, data.split("train").images[:32]
    short = replace(a, stages=(replace(a.stages[0], blocks=a.stages[0].blocks[:2]),))
    (kept,) = library.kept(short)
    network = sliced(library, short)
    ours, theirs = trace(network, x).enter[0], trace(library.start.network, x).enter[0]
    wanted = 0.0
    for own, other in ((ours[1], theirs[kept[1]]), (ours[2], theirs[3])):
        wanted += (own - other).square().mean() / other.var((0, 1), correction=0).mean() / 2
    assert loss_of(library, network, x) == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.usefixtures("exact")
def test_other_grids_and_dropped_tokens(library: Library, space: SearchSpace, data: Data) -> None:
    x = data.split("train").images[:32]
    whole = space.largest().architecture
    coarse = space.repair(Candidate.uncompressed(replace(whole, patch_size=8))).architecture
    first, *others = whole.stages[0].blocks
    blocks = (replace(first, token_keep=0.7), *others)
    fewer = replace(whole, stages=(replace(whole.stages[0], blocks=blocks),))
    for a in (coarse, fewer):
        network = assemble(library, Candidate.uncompressed(a)).requires_grad_(True)
        once, twice = (LayerLoss.of(library, w)(streams_of(network, x), x) for w in (1.0, 2.0))
        assert 1e-4 < once.item() < 3 and twice.item() == pytest.approx(2 * once.item())
        once.backward()
        for block in network.stages[0].blocks:  # type: ignore[union-attr]
            assert block.mlp.fc2.weight.grad.abs().sum() > 0


def test_without_a_class_token_dropped_tokens_are_not_compared() -> None:
    student, teacher = torch.randn(2, 12, 8), torch.randn(2, 16, 8)
    assert stream_loss(student, teacher, 0) == 0
    student[:, :1] = teacher[:, :1]
    assert stream_loss(student, teacher, 1) == 0
    student[:, 0] += teacher.std(correction=0)
    found = stream_loss(student, teacher, 1)
    assert 0.5 < found < 2
    assert stream_loss(3 * student, 3 * teacher, 1) == pytest.approx(found.item(), rel=1e-4)


def test_others_are_refused(library: Library, data: Data) -> None:
    a = replace(library.start.architecture, num_classes=7)
    x = data.split("train").images[:4]
    with pytest.raises(SpaceError, match="num_classes of the candidate is 7, of the start 10"):
        loss_of(library, random_network(a), x)


def test_training_keeps_a_student_nearer_to_the_start(
    library: Library, space: SearchSpace, data: Data, tmp_path: Path
) -> None:
    """The same number of steps on the same images, with and without the loss."""
    candidate = space.sample(1, seed=5)[0]
    lessons = make_lessons(data, library.start.network, 1)
    split, x = data.split("validation"), data.split("validation").images[:64]

    def far(lessons: Lessons) -> float:
        network = assemble(library, candidate)
        network.requires_grad_(True)
        config = FinishConfig(epochs=2, batch_size=64, lr=1e-3, layers=bool(lessons.layers))
        tuning = FineTuning(lessons, split, config, 0)
        train_alone(Finalist(candidate, network, tmp_path / tuning.recipe[-12:-1]), tuning)
        return loss_of(library, network, x)

    assert far(replace(lessons, layers=LayerLoss.of(library, 1.0))) < 0.8 * far(lessons)
