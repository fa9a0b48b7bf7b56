from dataclasses import replace
from statistics import mean
from typing import Any

import numpy as np
import pytest
import torch

from vitpareto.search.data.dataset import Data
from vitpareto.search.executors import ProcessExecutor
from vitpareto.search.experiments.rank_statistics import kendall_tau
from vitpareto.search.library.divergence import divergence
from vitpareto.search.library.parts import Library
from vitpareto.search.library.repair import assemble
from vitpareto.search.library.slices import sliced
from vitpareto.search.library.start import Start
from vitpareto.search.scoring.assembled import AssembledScorer
from vitpareto.search.training.forward import predict
from vitpareto.spaces import Architecture, Block, Candidate, SearchSpace, Stage
from vitpareto.spaces.errors import SpaceError
from vitpareto.spaces.networks import Network

from ..compress.helpers import images, random_network

ATTENTION = {"num_heads": 4, "head_dim": 8, "mlp_hidden": 64}
STARTS = {
    "class token": {},
    "mean": {"global_pool": "avg"},
    "layer scale": {"layer_scale": True, "norm": "rms"},
    "two heads": {"global_pool": "distill", "stem_norm": True},
    "conv stem, batch norm": {"stem": "conv", "norm": "batch", "global_pool": "avg"},
}


def whole(a: Architecture) -> Candidate:
    return Candidate.uncompressed(a)


def isotropic(*blocks: Block, **fields: object) -> Architecture:
    settings = {"input_size": 16, "patch_size": 4, "num_classes": 5, "in_chans": 1}
    return Architecture((Stage(32, blocks),), **settings | fields)


@pytest.mark.parametrize("name", STARTS)
def test_the_start_assembles_to_itself(name: str) -> None:
    mixers = [Block(**ATTENTION), Block("window", **ATTENTION, window_size=2), Block(**ATTENTION)]
    if STARTS[name].get("global_pool", "token") != "avg":
        mixers[1] = Block("pooled", **ATTENTION, kv_pool=2)
    network = random_network(isotropic(*mixers, **STARTS[name]))
    library = Library(Start.of(network, images(network.architecture, 16)))
    assembled = assemble(library, whole(network.architecture))
    state = network.state_dict()
    assert all(value.equal(state[name]) for name, value in assembled.state_dict().items())
    x = images(network.architecture, 4, seed=1)
    with torch.no_grad():
        assert assembled(x).equal(network(x))


def test_as_long_as_nothing_is_cut_it_is_the_start(library: Library, space: SearchSpace) -> None:
    """Only the last block is smaller: everything before it is untouched, bit for bit."""
    a = library.start.architecture
    stage = a.stages[0]
    last = replace(stage.blocks[-1], mlp_hidden=32)
    smaller = replace(a, stages=(replace(stage, blocks=(*stage.blocks[:-1], last)),))
    state = assemble(library, whole(smaller)).state_dict()
    moved = {n for n, v in state.items() if not v.equal(library.start.weights.get(n, v[:0]))}
    assert moved == {f"stages.0.blocks.2.mlp.{n}" for n in ("fc1.weight", "fc1.bias")} | {
        f"stages.0.blocks.2.mlp.fc2.{n}" for n in ("weight", "bias")
    }


def test_candidates_do_not_depend_on_those_before_them(
    library: Library, space: SearchSpace
) -> None:
    """Of each kind of patch embedding the first is repaired, and serves all others."""
    candidates = space.sample(12, seed=3)
    for candidate in candidates:
        assemble(library, candidate)
    for candidate in candidates:
        fresh = replace(library, start=replace(library.start))
        wanted = assemble(fresh, candidate).state_dict()
        got = assemble(library, candidate).state_dict()
        assert all(value.equal(wanted[name]) for name, value in got.items())


def test_exits_change_nothing_else_that_is_assembled(library: Library, space: SearchSpace) -> None:
    candidate = next(c for c in space.sample(20) if len(c.architecture.stages[0].blocks) == 2)
    a = candidate.architecture
    leaving = replace(a, stages=(replace(a.stages[0], exits="1"),))
    state = assemble(library, replace(candidate, architecture=leaving)).state_dict()
    plain = assemble(library, candidate).state_dict()
    assert state.keys() - plain.keys() == {f"stages.0.exits.1.{n}" for n in ("weight", "bias")}
    assert all(value.equal(state[name]) for name, value in plain.items())


@torch.no_grad()
def test_repair_brings_candidates_closer(library: Library, space: SearchSpace, data: Data) -> None:
    """On images that the repair has not seen; for all kinds of cuts, mixers and compression."""
    split = data.split("validation")
    teacher = predict(space.largest(), library.start.network, split)

    def far(candidate: Candidate, network: Network) -> float:
        return divergence(teacher, predict(candidate, network, split))

    candidates = space.sample(10, seed=5)
    cut = [far(c, sliced(library, c.architecture)) for c in candidates]
    repaired = [far(c, assemble(library, c)) for c in candidates]
    assert mean(repaired) < 0.6 * mean(cut)
    assert all(r < c for r, c in zip(repaired, cut, strict=True))


def test_assembling_is_reproducible(
    library: Library, space: SearchSpace, data: Data, elsewhere: ProcessExecutor
) -> None:
    """Here, again, and in another process, which gets the library as bytes."""
    scorer = AssembledScorer(library, data.split("validation"))
    candidates = space.sample(3, seed=8)
    there = [elsewhere.submit(scorer.logits, candidate) for candidate in candidates]
    for candidate, future in zip(candidates, there, strict=True):
        first = assemble(library, candidate).state_dict()
        torch.rand(3)  # the state of torch's generator does not matter
        second = assemble(library, candidate).state_dict()
        assert all(value.equal(second[name]) for name, value in first.items())
        assert scorer.logits(candidate).equal(future.result())


HYBRID = """
in_chans: 1
num_classes: 5
input_size: 32
stem: conv
patch_size: 4
pos_embed: relative
global_pool: avg
norm: [batch, layer]
act: relu
layer_scale: true
head_dim: 8
stages:
  - depth: [1, 2]
    width: [16, 24]
    weight_bits: [32, 8]
    blocks:
      mixer: [mbconv, pool, conv_next, cascaded, identity]
      num_groups: 2
      mlp_ratio: [1.0, 2.0]
  - depth: [1, 2]
    width: [32, 48]
    window_size: 2
    token_mlp_ratio: [0.25, 0.5]
    token_keep: [1.0, 0.5]
    token_keep_at: "0"
    weight_bits: [32, 4]
    blocks:
      mixer: [softmax, window, linear, token_mlp, focal, aggregate, linformer, performer, identity]
      num_heads: [2, 4]
      mlp_ratio: [1.0, 2.0]
"""


NORMED_AFTER = """
in_chans: 1
num_classes: 5
input_size: 32
patch_size: 4
pos_embed: none
global_pool: avg
norm: layer
post_norm: true
head_dim: 8
window_size: 4
stages:
  - {depth: 2, width: 16, num_heads: 2, mixer: cosine_window}
  - depth: [1, 2]
    width: [32, 48]
    downsample: merge_post
    blocks:
      mixer: [cosine_window, linear]
      num_heads: [2, 4]
      mlp_ratio: [1.0, 2.0]
      mixer_rank_ratio: [1.0, 0.5]
      weight_bits: [32, 4]
"""


@torch.no_grad()
@pytest.mark.parametrize("text", [HYBRID, NORMED_AFTER])
def test_hierarchies_are_assembled(text: str) -> None:
    """Of grids and tokens, several widths and kinds of norms; the start itself bit for bit."""
    space = SearchSpace.from_text(text)
    largest = space.largest()
    network = random_network(largest.architecture)
    library = Library(Start.of(network, images(largest.architecture, 8)))
    own, wanted = assemble(library, largest).state_dict(), network.state_dict()
    assert all(value.equal(wanted[name]) for name, value in own.items())
    x = images(largest.architecture, 4, seed=1)
    for candidate in (space.smallest(), *space.sample(12, seed=0)):
        assembled = assemble(library, candidate)
        assert assembled.architecture == candidate.architecture
        assert torch.isfinite(assembled(x)).all()


def test_a_larger_patch_sees_what_the_start_sees(library: Library, space: SearchSpace) -> None:
    """Its embedding is moved toward the mean of the start's tokens, and stays near its kernel."""
    a = replace(library.start.architecture, patch_size=8)
    cut, repaired = sliced(library, a), assemble(library, whole(a))
    images = library.start.images
    fine = library.start.trace.enter[0][0]
    means = fine[:, 1:].unflatten(1, (2, 2, 2, 2)).mean((2, 4)).flatten(1, 2)

    def error(network: Network) -> float:
        x = network.embed(network.patch_embed(images).flatten(2).transpose(1, 2))
        return (x[:, 1:] - means).square().mean().item()

    assert error(repaired) < 0.7 * error(cut)


@torch.no_grad()
@pytest.mark.parametrize(
    "fields", [{"global_pool": "distill"}, {"global_pool": "avg", "registers": 2}]
)
def test_every_head_of_a_narrow_candidate_reads_its_own_tokens(fields: dict[str, Any]) -> None:
    """It is moved toward the start's head of its name nearly as far as a linear layer can be."""
    network = random_network(isotropic(Block(**ATTENTION), **fields))
    a = network.architecture
    x = images(a, 64)
    library = Library(Start.of(network, x))
    narrow = replace(a, stages=(replace(a.stages[0], width=16),))
    cut, repaired = sliced(library, narrow), assemble(library, whole(narrow))
    wanted = network.forward_heads(network.forward_features(x))
    features = repaired.forward_features(x)
    patches = features[:, narrow.prefix :].mean(1)
    read = [features[:, 0], features[:, 1]] if a.class_tokens else [patches]
    assert len(wanted) == len(read) == len(repaired.forward_heads(features))
    for name, inputs, logits in zip(("head", "head_dist"), read, wanted, strict=False):
        rows = torch.cat([inputs, torch.ones(len(x), 1)], 1)
        nearest = (rows @ torch.linalg.lstsq(rows, logits).solution - logits).square().mean()
        own, before = (
            (net.get_submodule(name)(inputs) - logits).square().mean() for net in (repaired, cut)
        )
        assert own - nearest < 0.2 * (before - nearest)


def test_larger_candidates_are_refused(library: Library) -> None:
    a = library.start.architecture
    stage = a.stages[0]
    wide = replace(stage, blocks=(replace(stage.blocks[0], mlp_hidden=72), *stage.blocks[1:]))
    with pytest.raises(SpaceError, match=r"larger than the start: .*mlp.fc1.weight needs"):
        assemble(library, whole(replace(a, stages=(wide,))))
    deep = replace(stage, blocks=(*stage.blocks, stage.blocks[0]))
    with pytest.raises(SpaceError, match="candidate has 4 blocks, the start has 3"):
        assemble(library, whole(replace(a, stages=(deep,))))


@pytest.mark.parametrize("change", [{"global_pool": "avg"}, {"num_classes": 7}, {"in_chans": 3}])
def test_other_kinds_of_networks_are_refused(library: Library, change: dict[str, Any]) -> None:
    with pytest.raises(SpaceError, match=f"{min(change)} of the candidate is .*, of the start "):
        assemble(library, whole(replace(library.start.architecture, **change)))


def test_starts_that_drop_tokens_are_refused() -> None:
    network = random_network(isotropic(Block(**ATTENTION, token_keep=0.5)))
    with pytest.raises(SpaceError, match="must keep all its tokens"):
        Start.of(network, images(network.architecture, 2))


def test_few_images_order_candidates_as_many_do(
    library: Library, space: SearchSpace, data: Data
) -> None:
    """Candidates that are repaired on fewer images are worse, but hardly in another order."""
    few, split = library.seeing(48), data.split("search")
    assert len(few.start.images) == 48 and len(library.start.images) == 96
    candidates = space.sample(24, seed=5)
    short, long = (
        [AssembledScorer(of, split)(candidate)["divergence"] for candidate in candidates]
        for of in (few, library)
    )
    assert kendall_tau(np.array(short), np.array(long)) > 0.8
    assert mean(short) > mean(long)
