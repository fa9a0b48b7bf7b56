"""Repair: a cut network moved, in closed form and without labels, to where the start is.

Block by block, on the candidate's own activations, ridge regression moves the layer that writes
into the stream: the mixer's last one toward what the start's mixer leaves there, the MLP's last
one toward what the start's next kept block sees, so that it takes over from blocks that are gone.
Related: CORP, arXiv:2602.05243; variance-based pruning, arXiv:2507.12988.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...cost_models.units.precision_recipes import Book
from ...spaces import Candidate
from ...spaces.mixers import find
from ...spaces.networks import Network
from ...spaces.networks.block import ResidualBlock
from ...spaces.networks.branches import branches_of
from ...spaces.networks.norms import LayerScale
from ...spaces.networks.reduction import TokenReduction
from ...spaces.networks.refit import HEADS, LEAVING
from ...spaces.networks.routing import TokenRouter, as_column, returned, taken
from ...spaces.networks.stems import PatchEmbed
from ..compress.network import DEFAULT_RECIPES, compressible
from ..data.dataset import resized
from .fitting import TINY, Twins
from .inner import bare, chunked, token_weights, writes_last
from .parts import Depths, Library
from .routes import teach
from .slices import original, sliced
from .start import CHUNK, blocks_of, downsampled, on_grid, shaped, stages_of, stem, tokens

Map = Callable[[Tensor], Tensor]


@torch.no_grad()
def assemble(
    library: Library,
    candidate: Candidate,
    recipes: Book | Sequence[str] = DEFAULT_RECIPES,
    kept: Depths | None = None,
) -> Network:
    """A candidate's network in float, cut from a library and repaired.

    It is a function of the library and the candidate alone. As long as a candidate begins like
    the start, or like the start through other patches where that is its guide, it is the start,
    bit for bit.

    Args:
        library: of a network that is at least as large.
        candidate: its compression is in place while it is repaired.
        recipes: how the device runs each precision.
        kept: the start's blocks that stay; those of the library by default.

    Raises:
        SpaceError: the candidate is larger than the start.
        CostError: a precision that the device cannot run.
    """
    kept = kept or library.kept(candidate.architecture)
    network = sliced(library, candidate.architecture, kept)
    twins = Twins(network, compressible(network, candidate, recipes))
    _Walk(library, twins, kept).run()
    return network


class _Walk:
    """A walk along the residual streams of a candidate and of its start, side by side.

    Args:
        library: where the start is.
        twins: the candidate.
        kept: the start's blocks that it has.
    """

    def __init__(self, library: Library, twins: Twins, kept: Depths) -> None:
        self.twins, self.kept = twins, kept
        self.network, self.a = twins.running, twins.network.architecture
        self.start = library.guide(self.a)
        self.changed = self._changed()
        self.same = True  # as the start, up to here
        self.weights = torch.ones(0)  # of the tokens of the stream (B, N)
        self.reductions: list[Map] = []

    def run(self) -> None:
        """Repair everything, in order."""
        x = self._stem()
        for i, (stage, origins) in enumerate(zip(stages_of(self.network), self.kept, strict=True)):
            if i:
                x = self._downsample(i, x)
            self.weights = token_weights(x, self.a.prefix)
            last = len(self.start.architecture.stages[i].blocks)
            ends = (*origins[1:], last)
            for j, (block, origin, end) in enumerate(
                zip(blocks_of(stage), origins, ends, strict=True)
            ):
                whole = block.mlp is not None or end == j + 1
                self.same = self.same and origin == j and whole
                mixed, left = self.start.trace.mixed[i][origin], self.start.trace.enter[i][end]
                x = self._mix(block, (i, j), x, mixed if block.mlp else left)
                self.same = self.same and end == j + 1
                x = self._feed(block, (i, j), x, left)
        self._head(x)

    # Where the candidate still is the start.

    def _changed(self) -> set[str]:
        """Parameters that are not those of the start, or run compressed."""
        state, weights = self.twins.network.state_dict(), self.start.weights
        names = {name: original(name, self.kept) for name in state}
        # Branches that the start does not have are nothing yet.
        new = tuple(f"{path}." for path in branches_of(self.twins.network))
        own = {n for n, theirs in names.items() if theirs not in weights and n.startswith(new)}
        return {f"{layer}.weight" for layer in self.twins.layers} | {
            name
            for name, value in state.items()
            if name not in own
            and (names[name] not in weights or not value.equal(weights[names[name]]))
        }

    def _still(self, same: bool, *paths: str) -> bool:
        """Whether the candidate is the start up to here, these modules included."""
        self.same = (
            self.same
            and same
            and not any(name.startswith(f"{path}.") for name in self.changed for path in paths)
        )
        return self.same

    # Parts, from the image to the head.

    def _stem(self) -> Tensor:
        ours, theirs = (
            replace(a, stages=(), num_classes=1, token_reduction="evit", reparam=False)
            for a in (self.a, self.start.architecture)
        )
        behind = ("stages", *LEAVING)
        outside = {name for name in self.changed if name.partition(".")[0] not in behind}
        target = self.start.trace.enter[0][self.kept[0][0]]
        if self._still(ours == theirs and not outside and self.kept[0][0] == 0):
            return target
        images = resized(self.start.images, self.a.input_size)
        # Of candidates that see alike the patch embedding is repaired once: it has the most inputs
        # of all layers, and there are few kinds of it in a space.
        layers = [
            (name, layer.passes, layer.scheme)
            for name, layer in self.twins.layers.items()
            if layer.branch[0] == "patch_embed"
        ]
        kind = (ours, self.a.reparam, self.a.stages[0].width, self.kept[0][0], *layers)
        if kind in self.start.stems:
            self.twins.restore("patch_embed", self.start.stems[kind])
        else:
            self._fit_stem(images, target)
            self.start.stems[kind] = self.twins.state("patch_embed")
        return chunked(lambda part: stem(self.network, part), images)

    def _fit_stem(self, images: Tensor, wanted: Tensor) -> None:
        """Repair the patch embedding toward a stream of the start (B, N, C)."""
        network, embed = self.network, self.network.patch_embed
        self.twins.settle("patch_embed", lambda: embed(images))
        self.twins.compress("patch_embed")
        if not isinstance(embed, PatchEmbed) or network.norm_pre is not None:
            return
        side = self.a.patch_size
        patches = F.unfold(images, side, stride=side).transpose(1, 2)  # (B, N, C * side^2)
        width, prefix = embed.proj.out_channels, self.a.prefix
        blank = network.embed(images.new_zeros(1, patches.shape[1], width))
        missing = (self._target(wanted, 0) - blank)[:, prefix:]
        even = torch.ones(patches.shape[:2]), torch.ones(width)
        self.twins.fit("patch_embed.proj", patches, missing, *even)

    def _downsample(self, i: int, x: Tensor) -> Tensor:
        path, stage = f"stages.{i}.downsample", stages_of(self.network)[i]
        if self._still(self.kept[i][0] == 0, path):
            return self.start.trace.enter[i][0]
        self.twins.settle(path, lambda: downsampled(stage, x))
        self.twins.compress(path)
        return chunked(lambda part: downsampled(stage, part), x)

    def _mix(self, block: ResidualBlock, at: tuple[int, int], x: Tensor, wanted: Tensor) -> Tensor:
        i, j = at
        path = f"stages.{i}.blocks.{j}"
        names = ("norm1", block.mixer_name, "ls1", "mixer_router")
        if self._still(self._mixes_alike(block, i, j), *(f"{path}.{name}" for name in names)):
            return self.start.trace.mixed[i][j]
        target, reduction = self._target(wanted, i), block.reduction
        if block.mixer_router is not None:
            return self._routed(
                *(block.mixer_router, f"{path}.mixer_router", x, target),
                lambda *chosen: self._branch(block, path, *chosen)[0],
            )
        given, scores = self._branch(block, path, x, target - x, self.weights)
        x = x + given if block.residual else given
        return x if reduction is None else self._reduced(reduction, x, scores)

    def _mixes_alike(self, block: ResidualBlock, i: int, j: int) -> bool:
        if not self.same or block.reduction is not None:
            return False
        own, old = self.a.stages[i].blocks[j], self.start.architecture.stages[i].blocks[j]
        alike = (own.mixer, own.numbers) == (old.mixer, old.numbers)
        return alike and self._chooses_alike(own.mixer_capacity, old.mixer_capacity)

    def _chooses_alike(self, own: float, old: float) -> bool:
        """Whether as many tokens are chosen, in the same way; all of them have no choice."""
        return own == old and (
            own == 1 or self.a.token_routing == self.start.architecture.token_routing
        )

    def _branch(
        self, block: ResidualBlock, path: str, x: Tensor, wanted: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """What the mixer gives for tokens (B, N, C), moved toward what is wanted, and scores."""
        mixer, traits = block.get_submodule(block.mixer_name), find(block.mixer)

        def mixed(part: Tensor) -> tuple[Tensor, Tensor | None]:
            return block.branch(shaped(part, block.layout))

        self.twins.settle(path, lambda: mixed(x))
        simple = traits.layout == "tokens" and bool(traits.last) and not block.post_norm
        self.twins.compress(
            f"{path}.{block.mixer_name}",
            (lambda: block.norm1(x)) if simple else None,
            traits.readers,
        )
        if simple and writes_last(mixer, traits.last, block.norm1(x[:2])):
            with bare(mixer, traits.last):
                parts = [mixed(part) for part in x.split(CHUNK)]
            inner, scale = torch.cat([part[0] for part in parts]), _scale(block.ls1, x)
            name = f"{path}.{block.mixer_name}.{traits.last}"
            given = scale * self.twins.fit(name, inner, wanted, weights, scale)
        else:
            parts = [mixed(part) for part in x.split(CHUNK)]
            whole = torch.cat([part[0] for part in parts])
            given = tokens(block.ls1(whole) if block.residual else whole)
        scores = [part[1] for part in parts if part[1] is not None]
        return given, torch.cat(scores) if scores else None

    def _routed(
        self,
        router: nn.Module,
        path: str,
        x: Tensor,
        target: Tensor,
        branch: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """The stream with a branch for chosen tokens, moved toward the target.

        Args:
            router: gives places and scales of tokens.
            path: of the router.
            x: the stream (B, N, C).
            target: what it should become.
            branch: of the chosen tokens, what is missing there, and weights of them -> what is
                added.
        """
        index, gate = self._routes(router, path, x, target)
        chosen, weights = taken(x, index), taken(self.weights[:, :, None], index)[:, :, 0]
        missing = (taken(target, index) - chosen) / gate.clamp_min(TINY)
        added = branch(chosen, missing, weights * gate[:, :, 0].square())
        return returned(x, index, chosen + gate * added)

    def _reduced(self, reduction: nn.Module, x: Tensor, scores: Tensor | None) -> Tensor:
        """The stream without the tokens that are dropped; later targets lose the same ones."""
        self.reductions.append(lambda target: reduction(target, scores))
        self.weights = reduction(self.weights[:, :, None], scores)[:, :, 0]
        if isinstance(reduction, TokenReduction):
            self.weights[:, -1] = 0  # the fused token stands for no single one of the start
        return reduction(x, scores)

    def _feed(self, block: ResidualBlock, at: tuple[int, int], x: Tensor, wanted: Tensor) -> Tensor:
        i, j = at
        path = f"stages.{i}.blocks.{j}"
        if block.mlp is None:
            return wanted if self._still(self._as_wide(i, j)) else x
        parts = [f"{path}.{name}" for name in ("norm2", "mlp", "ls2", "router")]
        if self._still(self._as_wide(i, j), *parts):
            return wanted
        target = self._target(wanted, i)
        if block.router is None:
            return x + self._added(block, path, x, target - x, self.weights)
        return self._routed(
            *(block.router, f"{path}.router", x, target),
            lambda *chosen: self._added(block, path, *chosen),
        )

    def _added(
        self, block: ResidualBlock, path: str, x: Tensor, wanted: Tensor, weights: Tensor
    ) -> Tensor:
        """What the MLP adds to tokens (B, N, C), moved toward what is wanted."""
        mlp, norm, grid = block.mlp, block.norm2, block.layout == "grid"
        assert mlp is not None and norm is not None
        if block.post_norm:  # the norm after it leaves nothing to fit by least squares
            self.twins.compress(f"{path}.mlp")
            return chunked(lambda part: tokens(block.update(as_column(part) if grid else part)), x)

        def normed(part: Tensor) -> Tensor:
            return norm(as_column(part) if grid else part)

        self.twins.settle(f"{path}.norm2", lambda: normed(x))
        self.twins.compress(f"{path}.mlp", lambda: tokens(normed(x)), mlp.readers)
        with bare(mlp, "fc2"):
            inner = chunked(lambda part: tokens(mlp(normed(part))), x)
        scale = _scale(block.ls2, x)
        return scale * self.twins.fit(f"{path}.mlp.fc2", inner, wanted, weights, scale)

    def _routes(
        self, router: nn.Module, path: str, x: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Places of the tokens that are chosen, and by what a branch is multiplied for them."""
        if isinstance(router, TokenRouter) and f"{path}.score.weight" in self.changed:
            teach(router, x, target - x, self.weights)
            self.twins.network.get_submodule(path).load_state_dict(router.state_dict())
        index, gate = router(x)
        return index, x.new_ones(*index.shape, 1) if gate is None else gate

    def _as_wide(self, i: int, j: int) -> bool:
        if not self.same:
            return False
        own, old = self.a.stages[i].blocks[j], self.start.architecture.stages[i].blocks[j]
        wide = own.mlp_hidden == old.mlp_hidden
        return wide and self._chooses_alike(own.mlp_capacity, old.mlp_capacity)

    def _head(self, x: Tensor) -> None:
        """Fit every head to what that of the start says, where the stream is narrower."""
        if self._still(True, *LEAVING):
            return
        network, start = self.network, self.start.network
        self.twins.settle("norm", lambda: network.norm(x))
        for path in ("fc_norm", "fc_norm_dist"):
            if getattr(network, path) is not None:
                self.twins.settle(path, lambda: network.forward_heads(network.norm(x)))
        for path in LEAVING:
            self.twins.compress(path)
        if self.a.stages[-1].width == self.start.architecture.stages[-1].width:
            return
        heads = [name for name in HEADS if getattr(network, name) is not None]
        with ExitStack() as stack:
            for name in heads:
                stack.enter_context(bare(network, name))
            entering = network.forward_heads(network.norm(x))  # each (B, C)
        wanted = start.forward_heads(start.norm(self.start.trace.enter[-1][-1]))  # each (B, K)
        for name, inputs, logits in zip(heads, entering, wanted, strict=True):
            even = torch.ones(len(x), 1), torch.ones(logits.shape[-1])
            self.twins.fit(name, inputs[:, None], logits[:, None], *even)

    # Where to.

    def _target(self, stream: Tensor, i: int) -> Tensor:
        """The start's stream (B, N, C) on the candidate's grid, channels and tokens."""
        stream = on_grid(stream, self.start.architecture, self.a, i)
        for reduce in self.reductions:
            stream = reduce(stream)
        return stream


def _scale(module: nn.Module, x: Tensor) -> Tensor:
    """What a branch is multiplied by, per channel (C,)."""
    return module.gamma if isinstance(module, LayerScale) else x.new_ones(x.shape[-1])
