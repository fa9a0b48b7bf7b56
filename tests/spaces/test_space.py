"""Laws of a search space that hold for random candidates of every preset."""

import pickle
import random
from dataclasses import replace

import pytest

from vitpareto.spaces import Block, Candidate, SearchSpace, SpaceError
from vitpareto.spaces.rules import problems

from .helpers import small


def test_samples_are_in_the_space(space: SearchSpace, candidates: list[Candidate]) -> None:
    for candidate in candidates:
        assert candidate in space
        assert not list(problems(candidate.architecture))


def test_sampling_is_seeded(space: SearchSpace) -> None:
    first, second = space.sample(5, seed=0), space.sample(5, seed=1)
    assert first == space.sample(5, seed=0)
    assert first != second
    assert first[:3] == space.sample(3, seed=0)


def test_every_value_is_drawn(space: SearchSpace) -> None:
    rng = random.Random(0)
    missing = {(choice.name, value) for choice in space.parameters for value in choice.values}
    for _ in range(600):
        missing -= space.assignment(space.draw(rng)).items()
        if not missing:
            return
    assert not missing


def test_assignment_and_candidate_are_inverse(
    space: SearchSpace, candidates: list[Candidate]
) -> None:
    for candidate in candidates:
        assert space.candidate(space.assignment(candidate)) == candidate


def test_resolve_gives_both_at_once(space: SearchSpace) -> None:
    rng = random.Random(0)
    for _ in range(60):  # most of them meet no rule, and have choices without effect
        wanted = {c.name: rng.choice(c.values) for c in space.parameters if rng.random() < 0.8}
        candidate, active = space.resolve(wanted)
        assert candidate in space
        assert candidate == space.candidate(wanted) == space.candidate(active)
        assert active == space.assignment(candidate)


def test_neighbors(space: SearchSpace, candidates: list[Candidate]) -> None:
    for candidate in candidates[:2]:
        neighbors = space.neighbors(candidate)
        assert candidate not in neighbors
        for neighbor in neighbors[::7]:
            assert neighbor in space
    # What a choice alone can change, it can change back.
    near = space.neighbors(candidates[0])
    assert sum(candidates[0] in space.neighbors(other) for other in near[:20]) > 10


def test_repair_leaves_valid_candidates_alone(
    space: SearchSpace, candidates: list[Candidate]
) -> None:
    for candidate in candidates:
        assert space.repair(candidate) == candidate


def test_repair_brings_back_the_broken(space: SearchSpace, candidates: list[Candidate]) -> None:
    rng = random.Random(0)
    for candidate in candidates:
        broken = break_up(candidate, rng)
        assert broken not in space
        assert space.repair(broken) in space
        with pytest.raises(SpaceError, match="is not in space"):
            space.assignment(broken)


def break_up(candidate: Candidate, rng: random.Random) -> Candidate:
    """Numbers that no preset has, in one block and in the width."""
    architecture = candidate.architecture
    stages = list(architecture.stages)
    index = rng.randrange(len(stages))
    blocks = list(stages[index].blocks)
    wrong = Block("softmax", num_heads=7, head_dim=3, mlp_hidden=31, token_keep=0.123)
    blocks[rng.randrange(len(blocks))] = wrong
    stages[index] = replace(stages[index], blocks=tuple(blocks), width=stages[index].width + 1)
    return replace(candidate, architecture=replace(architecture, stages=tuple(stages)))


def test_another_depth_is_repaired(space: SearchSpace) -> None:
    stranger = Candidate.uncompressed(small(*[Block("pool", mlp_hidden=24)] * 3))
    assert stranger not in space
    assert space.repair(stranger) in space


def test_mutation_stays_inside_and_moves(space: SearchSpace, candidates: list[Candidate]) -> None:
    rng = random.Random(0)
    moved = 0
    for candidate in candidates:
        mutant = space.mutate(candidate, rng, rate=0.2)
        assert mutant in space
        moved += mutant != candidate
    assert moved > len(candidates) / 2


def test_mutation_draws_what_had_no_effect_before() -> None:
    blocks = {"mixer": ["pool", "softmax"], "num_heads": [1, 2, 4]}
    stages = [{"depth": 1, "width": 16, "blocks": blocks}]
    space, rng = SearchSpace({"global_pool": "avg", "stages": stages}), random.Random(0)
    pool = space.candidate({"stages.0.blocks.0.mixer": "pool"})
    mutants = [space.mutate(pool, rng) for _ in range(60)]
    heads = {m.architecture.stages[0].blocks[0].num_heads for m in mutants if m != pool}
    assert heads == {1, 2, 4}


def test_channels_that_follow_from_the_heads_are_read_back_where_heads_are_pruned() -> None:
    blocks = {"num_heads": [1, 4], "head_dim": [8, 0], "prune_ratio": [0.0, 0.5]}
    stages = [{"depth": 1, "width": 16, "mixer": "softmax", "blocks": blocks}]
    space = SearchSpace({"global_pool": "avg", "stages": stages})
    candidates = {candidate.key: candidate for candidate in space.sample(200)}
    assert len(candidates) == space.size
    for candidate in candidates.values():
        assert candidate in space
        assert space.candidate(space.assignment(candidate)) == candidate


def test_names_that_are_no_choice_are_refused() -> None:
    space = SearchSpace.from_yaml("digits")
    with pytest.raises(SpaceError, match=r"dpth: unknown choice. Did you mean 'stages.0.depth'"):
        space.candidate({"stages.0.dpth": 3})


def test_extremes(space: SearchSpace) -> None:
    largest, smallest = space.largest(), space.smallest()
    for large, small_ in zip(
        largest.architecture.stages, smallest.architecture.stages, strict=True
    ):
        assert large.width >= small_.width
        assert len(large.blocks) >= len(small_.blocks)
    assert largest.compression.stages[0].mlp[0].prune_ratio == 0


def test_yaml_round_trip(space: SearchSpace) -> None:
    again = SearchSpace.from_text(space.to_yaml())
    assert again == space
    assert again.size == space.size
    assert again.sample(3, seed=5) == space.sample(3, seed=5)


def test_a_space_travels_between_processes(space: SearchSpace) -> None:
    again = pickle.loads(pickle.dumps(space))
    assert again == space
    assert again.sample(3, seed=5) == space.sample(3, seed=5)


def test_size_is_an_exact_integer(space: SearchSpace) -> None:
    assert type(space.size) is int
    assert space.size > 10**8


def test_replace_changes_top_names_only(space: SearchSpace) -> None:
    other = space.replace(num_classes=7)
    assert {c.architecture.num_classes for c in other.sample(3)} == {7}
    assert other.size == space.size


def test_a_preset_is_drawn_with_all_its_mixers() -> None:
    hybrid = SearchSpace.from_yaml("mobile_hybrid")
    used = {b.mixer for c in hybrid.sample(100) for b in c.architecture.blocks()}
    assert used == {
        *("mbconv", "pool", "window", "linear", "pooled", "softmax", "grouped", "token_mlp")
    }


def test_widths_and_hidden_units_suit_kernels(candidates: list[Candidate]) -> None:
    for candidate in candidates:
        for stage in candidate.architecture.stages:
            assert stage.width % 8 == 0
            for block in stage.blocks:
                assert block.mlp_hidden % 8 == 0
                assert block.num_heads * block.head_dim % 8 == 0
