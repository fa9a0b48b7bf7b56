"""A candidate of other patches follows the start through them, if that has learned to see so."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from vitpareto.search.data.dataset import Data
from vitpareto.search.library.files import checkpoint_of, load, save
from vitpareto.search.library.guides import is_guide, unknown_guides
from vitpareto.search.library.parts import Library
from vitpareto.search.library.repair import assemble
from vitpareto.search.library.start import Start
from vitpareto.search.start.patches import Patches
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import RunError
from vitpareto.spaces.networks import Network
from vitpareto.spaces.networks.refit import resized_network


@pytest.fixture(scope="module")
def seeing(network: Network, data: Data) -> Start:
    """The start after some steps through patches of 8 as well."""
    learner, train = Network(network.architecture), data.split("train")
    learner.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-3)
    generator, patches = torch.Generator().manual_seed(0), Patches(learner, [4, 8])
    for step in range(80):
        picked = torch.randint(len(train), (64,), generator=generator)
        answers = patches.logits(train.images[picked], step)
        loss = torch.stack([F.cross_entropy(a, train.labels[picked]) for a in answers]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Start.of(learner.eval(), train.images[:96])


def through_8(start: Start) -> Candidate:
    return Candidate.uncompressed(replace(start.architecture, patch_size=8))


def test_only_who_has_learned_to_see_is_followed(start: Start, seeing: Start) -> None:
    assert not is_guide(Library(start), 8)
    assert is_guide(Library(seeing), 8)


def test_an_uncut_candidate_is_the_start_through_its_patches(seeing: Start) -> None:
    candidate = through_8(seeing)
    made = assemble(Library(seeing, sees={8: True}), candidate).state_dict()
    wanted = resized_network(seeing.network, 16, 8).state_dict()
    assert all(value.equal(made[name]) for name, value in wanted.items())
    pooled = assemble(Library(seeing, sees={8: False}), candidate).state_dict()
    assert not all(value.equal(pooled[name]) for name, value in wanted.items())


def test_its_own_patches_are_no_question(library: Library, space: SearchSpace) -> None:
    assert library.sees == {8: False}
    assert [*unknown_guides(library, space)] == []
    assert [*unknown_guides(Library(library.start), space)] == [8]
    assert library.guide(library.start.architecture) is library.start


def test_it_is_kept(seeing: Start, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(tmp_path / "library.safetensors", seeing)
    save(checkpoint, Library(seeing, dropped=((),), sees={8: True}))
    assert load(checkpoint, seeing).sees == {8: True}


def test_a_file_is_known_again_by_any_number_of_threads(
    start: Start, data: Data, tmp_path: Path
) -> None:
    """The sum of so many pixels differs in its last digits."""
    path, threads = tmp_path / "library.safetensors", torch.get_num_threads()
    many = Start(start.architecture, start.weights, data.split("train").images[:700])
    try:
        torch.set_num_threads(1)
        save(checkpoint_of(path, many), Library(many, dropped=((),)))
        torch.set_num_threads(2)
        assert load(checkpoint_of(path, many), many).dropped == ((),)
    finally:
        torch.set_num_threads(threads)
    with pytest.raises(RunError, match="another"):
        load(checkpoint_of(path, start), start)
