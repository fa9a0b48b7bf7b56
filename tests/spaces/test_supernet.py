"""Weight sharing: a candidate runs on slices of the largest network's weights."""

from copy import copy
from itertools import product

import pytest
import torch

from vitpareto.spaces import Candidate, SearchSpace, SpaceError
from vitpareto.spaces.networks import Network
from vitpareto.spaces.networks.refit import without_distillation
from vitpareto.spaces.supernet import Supernet, blueprint, shared_name

from .helpers import difference, images, randomize, randomized


@pytest.fixture
def digits() -> tuple[SearchSpace, Supernet]:
    """A supernet of its own, to be changed."""
    space = SearchSpace.from_yaml("digits")
    supernet = Supernet(space)
    randomize(supernet.state_dict())
    return space, supernet


def choose(space: SearchSpace, **values: object) -> Candidate:
    """A candidate in which every choice of these names has that value, others the largest."""
    names = {choice.name: choice.name.rpartition(".")[2] for choice in space.parameters}
    return space.candidate({n: values[last] for n, last in names.items() if last in values})


def test_sliced_equals_extracted(
    supernet: Supernet, candidates: list[Candidate], logits: list[torch.Tensor]
) -> None:
    for candidate, found in zip(candidates, logits, strict=True):
        assert found.shape == (1, candidate.architecture.num_classes)
        assert found.std() > 0.01
        with torch.no_grad():
            assert difference(found, supernet.extract(candidate)(images(candidate, 1))) < 1e-5


def test_candidates_give_different_logits(logits: list[torch.Tensor]) -> None:
    for i, j in product(range(len(logits)), repeat=2):
        assert i == j or difference(logits[i], logits[j]) > 1e-3


def test_extracted_networks_own_their_weights(digits: tuple[SearchSpace, Supernet]) -> None:
    space, supernet = digits
    candidate = space.smallest()
    network = supernet.extract(candidate)
    x = images(candidate)
    with torch.no_grad():
        before = network(x)
        for parameter in supernet.parameters():
            parameter.zero_()
        assert difference(network(x), before) == 0
        assert difference(supernet(candidate, x), before) > 1e-3


def test_every_candidate_of_a_space_fits(space: SearchSpace, supernet: Supernet) -> None:
    """Whatever is combined, each parameter is at most as large as the shared one."""
    for candidate in space.sample(20, seed=2):
        for name, tensor in supernet.inherit(candidate).items():
            assert tensor.numel() > 0, name


def test_gradients_are_those_of_the_extracted_network(
    supernet: Supernet, candidates: list[Candidate]
) -> None:
    candidate = candidates[2]
    x = images(candidate)
    torch.autograd.backward(supernet(candidate, x).square().sum())
    network = supernet.extract(candidate)
    network(x).square().sum().backward()
    _, rules = blueprint(candidate.architecture)
    for name, parameter in network.named_parameters():
        rule, shape = rules[name]
        gradient = supernet.params[shared_name(name, rule)].grad
        assert gradient is not None, name
        assert parameter.grad is not None, name
        if rule.fold is None:
            scale = parameter.grad.abs().max().item()
            assert difference(rule.cut(gradient, shape), parameter.grad) <= 1e-4 * scale, name
        elif parameter.grad.abs().max() > 0:
            assert gradient.abs().max() > 0, name
    for parameter in supernet.parameters():
        parameter.grad = None


def test_gradients_reach_only_what_was_used(digits: tuple[SearchSpace, Supernet]) -> None:
    """Weights without a gradient are free to change: the candidate does not see them."""
    space, supernet = digits
    candidate = choose(space, depth=2, width=48, patch_size=8, mixer="softmax", act="gelu")
    x = images(candidate)
    logits = supernet(candidate, x)
    logits.square().sum().backward()
    unused = total = 0
    with torch.no_grad():
        for parameter in supernet.parameters():
            free = torch.ones_like(parameter) if parameter.grad is None else parameter.grad == 0
            parameter.add_(free.float())
            unused += int(free.sum())
            total += parameter.numel()
        assert total / 2 < unused < total
        assert difference(supernet(candidate, x), logits) < 1e-5
        assert difference(supernet(space.largest(), x), logits) > 1e-3


def test_class_tokens_share_their_positions() -> None:
    """A candidate without the distillation token is the start without it."""
    stages = [{"depth": 2, "width": 16, "num_heads": 2, "mlp_ratio": 2.0}]
    fixed = {"input_size": 16, "num_classes": 3, "stages": stages}
    several = {"global_pool": ["distill", "token", "avg"], "patch_size": [4, 8]}
    space = SearchSpace({**fixed, **several})
    start = randomized(choose(space, global_pool="distill", patch_size=4).architecture)
    supernet = Supernet(space)
    supernet.load_network(start)
    x = images(start.architecture)
    with torch.no_grad():
        for pool, wanted in {"distill": start, "token": without_distillation(start)}.items():
            candidate = choose(space, global_pool=pool, patch_size=4)
            assert difference(supernet(candidate, x), wanted(x)) < 1e-5
        for candidate in space.sample(8, seed=0):
            assert torch.isfinite(supernet(candidate, x)).all()
    small = randomized(choose(space, global_pool="token", patch_size=8).architecture)
    supernet.load_network(small)
    with torch.no_grad():
        found = supernet(choose(space, global_pool="token", patch_size=4), x)
        assert found.shape == (2, 3) and torch.isfinite(found).all()


def test_heads_of_two_vectors_are_shared_with_no_others() -> None:
    stages = [{"depth": 1, "width": 16, "num_heads": 2}]
    space = SearchSpace({"input_size": 16, "global_pool": ["token", "token_avg"], "stages": stages})
    with pytest.raises(SpaceError, match=r"cannot share head.weight, .* 'token_avg' goes with no"):
        Supernet(space)


MERGING = {
    "input_size": 32,
    "patch_size": 4,
    "global_pool": "avg",
    "num_heads": 2,
    "norm": ["batch", "layer", "group1"],
    "downsample": ["conv", "merge", "merge_post", "patch", "overlap", "mbconv"],
    "stages": [{"depth": 1, "width": [16, 32]}, {"depth": 1, "width": [16, 32]}],
}


@pytest.mark.parametrize("name", ["mobile_hybrid", "merging"])
def test_running_statistics_are_shared_and_updated(name: str) -> None:
    space = SearchSpace(MERGING) if name == "merging" else SearchSpace.from_yaml(name)
    supernet = Supernet(space)
    candidate = choose(space, width=16, depth=1, norm="batch", downsample="merge")
    before = {name: value.clone() for name, value in supernet.buffers.items()}
    with torch.no_grad():
        supernet(candidate, images(candidate), train=True)
    changed = {n for n, value in supernet.buffers.items() if difference(value, before[n]) > 0}
    expected = {
        name
        for name, _ in supernet.extract(candidate).named_buffers()
        if name.endswith(("running_mean", "running_var"))
    }
    assert {name.partition("@")[0] for name in changed} == expected


def test_kinds_that_meet_only_together_are_shared_too() -> None:
    """Parameters that exist for one norm with one downsampling, at their largest."""
    space = SearchSpace(MERGING)
    supernet = Supernet(space)
    for candidate in space.sample(100):
        supernet.inherit(candidate)


@pytest.mark.parametrize("mixer", ["softmax", "linear", "window"])
def test_sorting_changes_no_output(digits: tuple[SearchSpace, Supernet], mixer: str) -> None:
    space, supernet = digits
    largest = choose(space, mixer=mixer)
    small = choose(space, mixer=mixer, num_heads=2, mlp_ratio=1.0)
    x = images(largest)
    with torch.no_grad():
        before, before_small = supernet(largest, x), supernet(small, x)
        supernet.sort_by_importance()
        assert difference(supernet(largest, x), before) < 1e-4
        assert difference(supernet(small, x), before_small) > 1e-3


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("mixers", [["grouped"], ["softmax", "grouped"]])
def test_sorting_keeps_a_start_whose_heads_share_keys(kv_heads: int, mixers: list[str]) -> None:
    """Whether or not the largest network of the space is one like it."""
    attention = {"num_heads": 4, "head_dim": 8, "kv_heads": kv_heads, "mixer": mixers}
    stages = [{"depth": 2, "width": 32, "blocks": {"mlp_ratio": [1.0, 2.0]}}]
    space = SearchSpace({"input_size": 16, "patch_size": 4, "stages": stages, **attention})
    start = choose(space, mixer="grouped")
    network = randomized(start.architecture)
    query = "stages.0.blocks.0.attn.q.weight"
    with torch.no_grad():
        importance = torch.tensor([0.5, 3.0, 1.0, 4.0])
        network.get_parameter(query).mul_(importance.repeat_interleave(8)[:, None])
        supernet, x = Supernet.from_network(space, network), images(start)
        assert difference(supernet(start, x), network(x)) < 1e-4
        heads = supernet.params[query].square().sum((1, 2)).tolist()
    assert heads[0] == max(heads)


def test_heads_that_one_mixer_has_more_of_are_sorted_too() -> None:
    """Mixers share projections, but not all that is sorted with them."""
    blocks = {"mixer": ["softmax", "window"], "num_heads": [2, 4]}
    stages = [{"depth": 1, "width": 32, "window_size": 2, "blocks": blocks}]
    around = {"input_size": 16, "patch_size": 4, "global_pool": "avg", "pos_embed": "relative"}
    clause = {"num_heads": 4, "mixer": "window"}
    space = SearchSpace({**around, "forbidden": [clause], "stages": stages})
    supernet = Supernet(space)
    randomize(supernet.state_dict())
    x = images(space.largest())
    with torch.no_grad():
        before = supernet(space.largest(), x)
        supernet.sort_by_importance()
        assert difference(supernet(space.largest(), x), before) < 1e-4
        for candidate in space.sample(8):
            assert torch.isfinite(supernet(candidate, x)).all()


def test_sorting_puts_the_most_important_first(digits: tuple[SearchSpace, Supernet]) -> None:
    _, supernet = digits
    supernet.sort_by_importance()
    block = "stages.0.blocks.1"
    heads = sum(
        supernet.params[f"{block}.attn.{name}"].detach().square().flatten(1).sum(1)
        for name in ("q.weight", "k.weight", "v.weight", "q.bias", "k.bias", "v.bias")
    )
    proj = supernet.params[f"{block}.attn.proj.weight"].detach()
    dwconv = [supernet.params[f"{block}.attn.dwconv.{n}"].detach() for n in ("weight", "bias")]
    heads = heads + proj.square().sum((0, 2))
    heads = heads + sum(tensor.square().flatten(1).sum(1) for tensor in dwconv)
    assert heads.tolist() == sorted(heads.tolist(), reverse=True)
    hidden = (
        supernet.params[f"{block}.mlp.fc1.weight"].detach().square().sum(1)
        + supernet.params[f"{block}.mlp.fc1.bias"].detach().square()
        + supernet.params[f"{block}.mlp.fc2.weight"].detach().square().sum(0)
    )
    assert hidden.tolist() == sorted(hidden.tolist(), reverse=True)


def test_sorting_by_given_scores(digits: tuple[SearchSpace, Supernet]) -> None:
    _, supernet = digits
    name = "stages.0.blocks.0.mlp.fc1.bias"
    scores = {n: torch.zeros_like(p) for n, p in supernet.params.items()}
    scores[name] = torch.arange(float(scores[name].numel()))
    last_first = supernet.params[name].detach().flip(0)
    supernet.sort_by_importance(scores)
    assert difference(supernet.params[name].detach(), last_first) == 0


def test_another_device(space: SearchSpace, initial: Supernet) -> None:
    """Nothing stays behind on the CPU: `meta` is as far away as a GPU."""
    candidate = choose(space, mixer="window", token_reduction="random", token_keep=0.5)
    supernet = copy(initial)
    supernet.params = {n: torch.nn.Parameter(p.to("meta")) for n, p in supernet.params.items()}
    supernet.buffers = {n: b.to("meta") for n, b in supernet.buffers.items()}
    logits = supernet(candidate, images(candidate).to("meta"))
    assert logits.shape == (2, candidate.architecture.num_classes)


def test_grouped_keys_and_values_are_means_over_heads(
    supernet: Supernet, space: SearchSpace
) -> None:
    plain = choose(space, mixer="softmax", mixer_prune_ratio=0.0)
    grouped = choose(space, mixer="grouped", mixer_prune_ratio=0.0)
    pairs = [
        (block, other)
        for block, other in zip(
            plain.architecture.blocks(), grouped.architecture.blocks(), strict=True
        )
        if (block.mixer, other.mixer) == ("softmax", "grouped")
    ]
    if not pairs:
        pytest.skip(f"{space.name} has no grouped attention")
    names = [name for name in supernet.inherit(grouped) if ".attn.k." in name]
    own, merged = supernet.inherit(plain), supernet.inherit(grouped)
    compared = 0
    for name in names:
        if own[name].shape != merged[name].shape:
            dim = pairs[0][1].head_dim
            kv_heads = merged[name].shape[0] // dim
            groups = own[name].unflatten(0, (kv_heads, -1, dim))
            assert difference(merged[name].unflatten(0, (-1, dim)), groups.mean(1)) < 1e-6
            compared += 1
    assert compared > 1


def test_state_dict_round_trip(digits: tuple[SearchSpace, Supernet]) -> None:
    space, supernet = digits
    other = Supernet(space, seed=5)
    candidate = space.sample(1, seed=3)[0]
    x = images(candidate)
    with torch.no_grad():
        expected = supernet(candidate, x)
        assert difference(other(candidate, x), expected) > 1e-3
        other.load_state_dict(supernet.state_dict())
        assert difference(other(candidate, x), expected) == 0


def test_weights_of_another_space_are_refused(digits: tuple[SearchSpace, Supernet]) -> None:
    _, supernet = digits
    other = Supernet(SearchSpace.from_yaml("digits").replace(num_classes=7))
    with pytest.raises(SpaceError, match=r"another space: head.bias needs shape \(7,\), got"):
        other.load_state_dict(supernet.state_dict())


def test_candidates_of_another_space_are_refused(digits: tuple[SearchSpace, Supernet]) -> None:
    _, supernet = digits
    stranger = SearchSpace.from_yaml("cifar").largest()
    with pytest.raises(SpaceError, match="the candidate is not in its space"):
        supernet.inherit(stranger)


def test_networks_of_another_space_are_refused(digits: tuple[SearchSpace, Supernet]) -> None:
    space, _ = digits
    stranger = Network(SearchSpace.from_yaml("cifar").largest().architecture)
    with pytest.raises(SpaceError, match=r"no place for .* the network is larger"):
        Supernet.from_network(space, stranger)


def test_seeds_give_reproducible_weights() -> None:
    space = SearchSpace.from_yaml("digits")
    first, same, other = (Supernet(space, seed).state_dict() for seed in (1, 1, 2))
    assert all(tensor.equal(same[name]) for name, tensor in first.items())
    assert any(not tensor.equal(other[name]) for name, tensor in first.items())


def test_initial_weights_let_signals_through(initial: Supernet) -> None:
    """Scales start at one, biases at zero, in every kind of layer that a space can have."""
    for name, tensor in initial.state_dict().items():
        last = name.partition("@")[0].rpartition(".")[2]
        scales = ("gamma", "point_gamma", "running_var")
        if last in scales or (last == "weight" and (tensor.ndim == 1 or ".bn." in name)):
            assert (tensor == 1).all(), name
        elif last in ("bias", "running_mean", "bias_table", "point"):
            assert (tensor == 0).all(), name
        else:
            assert 0.01 < tensor.std() < 0.03 or "norm" in name, name
