"""Precision: the recipes by which a policy's bits become stored bytes and executed kernels.

A policy says how many bits a weight has. A recipe says how a graph stores them and what
computes with them; which one is best is measured, per device and kind of sub-block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ...spaces import Policy, UnknownNameError
from ...spaces.compression import INTEGER_BITS
from ...spaces.errors import CostError
from ..runtime_spec import RUNTIMES
from .sub_block import SubBlock

Book = Mapping[str, str]  # group of sub-blocks -> recipe that the device runs it with
BLOCK = 32  # inputs that share a scale in block-wise 4-bit weights, where nothing else is said
LONGER = (64, 128)  # further numbers of such inputs that kernels have
KERNEL_BITS = 7  # of a weight that meets 8-bit activations, see `Recipe.value_bits`


@dataclass(frozen=True, slots=True)
class Recipe:
    """Storage and use of the constant weights of linear layers and dense convolutions.

    Attributes:
        name: as in device files.
        weights: bits of a stored weight.
        activations: what enters a kernel: floats, or integers of 8 bits whose scale is found at
            each run ("dynamic") or was calibrated ("static").
        kernel: the recipe that runs where constants are folded at load; itself for most.
        summary: what it does, for people.
        layout: what shares a scale: the weights of an output channel, blocks of inputs of one, or
            the whole tensor.
        block: inputs that share a scale in blocks.
        symmetric: whether activations are signed integers whose zero is 0, as TensorRT takes them.
    """

    name: str
    weights: int
    activations: Literal["float", "dynamic", "static"]
    kernel: str
    summary: str
    layout: Literal["channels", "blocks", "tensor"] = "channels"
    block: int = BLOCK
    symmetric: bool = False

    def serves(self, policy: Policy) -> bool:
        """Whether the recipe can hold the policy's weights and keeps to its activations."""
        integer_acts = policy.act_bits <= INTEGER_BITS
        return (
            self.weights == stored_bits(policy)
            and integer_acts == (self.activations != "float")
            and policy.weight_scales in ("", self.scales)
        )

    @property
    def scales(self) -> str:
        """What shares a scale of integer weights, as policies say it; empty for floats."""
        if self.weights > INTEGER_BITS:
            return ""
        return f"block{self.block}" if self.layout == "blocks" else self.layout.removesuffix("s")

    @property
    def is_usual(self) -> bool:
        """Whether its scales are as fine as those that are taken where no policy says more."""
        return self.layout != "tensor" and self.block == BLOCK

    @property
    def value_bits(self) -> int:
        """Bits that the values of a stored weight may use.

        Beside 8-bit activations one less than 8: x86 processors without VNNI add two products in
        16 bits (VPMADDUBSW), where full 8-bit weights overflow without a word. ONNX Runtime's
        quantization guide calls it `reduce_range`. A model is then the same on every processor.
        """
        return self.weights if self.activations == "float" else min(self.weights, KERNEL_BITS)

    @property
    def of_convs(self) -> Recipe:
        """Recipe of convolutions, as no runtime has a kernel that unpacks their blocks."""
        blocks = self.layout == "blocks"
        return replace(self, activations="float", layout="channels") if blocks else self


_USUAL = {
    recipe.name: recipe
    for recipe in (
        Recipe("float", 32, "float", "float", "float32 weights and kernels"),
        Recipe("fp16", 16, "float", "float", "float16 weights, cast to float32 once at load"),
        Recipe(
            *("dynamic8", 8, "dynamic", "dynamic8"),
            "int8 weights per channel, activations quantized at each run",
        ),
        Recipe(
            *("static8", 8, "static", "static8"),
            "int8 weights per channel, activations by calibrated scales",
        ),
        Recipe(
            *("stored8", 8, "float", "float"),
            "int8 weights per channel, expanded to float32 once at load",
        ),
        Recipe(
            *("dynamic4", 4, "dynamic", "dynamic8"),
            "as dynamic8 with 4-bit weights, widened to int8 once at load",
        ),
        Recipe(
            *("static4", 4, "static", "static8"),
            "as static8 with 4-bit weights, widened to int8 once at load",
        ),
        Recipe(
            *("stored4", 4, "float", "float"),
            "4-bit weights per channel, expanded to float32 once at load",
        ),
        Recipe(
            *("blocks4", 4, "float", "blocks4"),
            "4-bit weights in blocks of 32, unpacked inside float kernels",
            layout="blocks",
        ),
        Recipe(
            *("blocks4a8", 4, "dynamic", "blocks4a8"),
            "4-bit weights in blocks of 32, unpacked inside int8 kernels",
            layout="blocks",
        ),
        Recipe(
            *("symmetric8", 8, "static", "symmetric8"),
            "as static8 with scales that are symmetric and zero points of 0, for TensorRT",
            symmetric=True,
        ),
    )
}


def _coarser() -> Iterator[Recipe]:
    """The usual recipes with fewer scales, for policies that ask for them.

    Kernels do not care how many scales a whole tensor has; those that unpack blocks do.
    """
    for recipe in _USUAL.values():
        if recipe.layout == "blocks":
            for block in LONGER:
                name = f"{recipe.name}_{block}"
                summary = recipe.summary.replace(f"of {BLOCK}", f"of {block}")
                yield replace(recipe, name=name, kernel=name, summary=summary, block=block)
        elif recipe.weights <= INTEGER_BITS and not recipe.symmetric:
            name = f"{recipe.name}_tensor"
            summary = f"as {recipe.name} with one scale for each tensor of weights"
            yield replace(recipe, name=name, summary=summary, layout="tensor")


RECIPES: dict[str, Recipe] = _USUAL | {recipe.name: recipe for recipe in _coarser()}


def stored_bits(policy: Policy) -> int:
    """Bits that one weight takes in a file: the smallest of 4, 8, 16, 32 that holds it.

    >>> stored_bits(Policy(3)), stored_bits(Policy(6)), stored_bits(Policy())
    (4, 8, 32)
    """
    return next(bits for bits in (4, 8, 16, 32) if policy.weight_bits <= bits)


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UnknownNameError: no such recipe; the message names the closest one.
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise UnknownNameError("recipe", name, RECIPES) from None


def kernel_recipe(name: str, runtime: str) -> str:
    """The recipe whose kernels a runtime runs for a recipe.

    One that folds constants has widened a weight that is only stored in another form before the
    first run; others keep the form and have kernels for it.

    Args:
        name: of the recipe.
        runtime: as a cost model says, which may be that of another machine and not known here.
    """
    spec = RUNTIMES.get(runtime)
    return find_recipe(name).kernel if spec and spec.folds_constants else name


def packs_zeros(runtime: str) -> bool:
    """Whether files of a runtime hold sparse weights without their zeros.

    Args:
        runtime: as a cost model says, which may be that of another machine and not known here.
    """
    spec = RUNTIMES.get(runtime)
    return spec is not None and spec.packs_zeros


def serving(policy: Policy, names: Iterable[str]) -> list[str]:
    """The recipes among `names` that can run a policy.

    Where it does not say what shares a scale, the usual ones if there are any.

    Raises:
        CostError: none can: the device has no kernel for that precision.
    """
    names = list(names)
    recipes = [name for name in names if find_recipe(name).serves(policy)]
    if not policy.weight_scales:  # coarser ones would cost accuracy that nobody traded for them
        recipes = [name for name in recipes if find_recipe(name).is_usual] or recipes
    if not recipes:
        scales = f", a scale for each {policy.weight_scales}," if policy.weight_scales else ""
        bits = Policy(policy.weight_bits, policy.act_bits)
        near = [name for name in names if find_recipe(name).serves(bits)] or names
        raise CostError(
            f"no recipe of this device holds {policy.weight_bits}-bit weights{scales} with "
            f"{policy.act_bits}-bit activations; it has {', '.join(near)}"
        )
    return recipes


def ranked(block: SubBlock, names: Iterable[str]) -> list[str]:
    """The recipes among `names` that can run a sub-block, the likely best first.

    That is the order of the names, but convolutions are left to the others before dynamic
    recipes: no CPU runtime here has a fast kernel for them (`vitpareto devices` shows 0.2x).

    Raises:
        CostError: none can.
    """
    recipes = serving(block.policy, names)
    if any(op.kind == "conv" for op in block.ops()):
        recipes.sort(key=lambda name: find_recipe(name).of_convs.activations == "dynamic")
    return recipes


def precision_of(policy: Policy) -> str:
    """Weight and activation bits as a short name, and what shares a scale where that is said.

    >>> precision_of(Policy(8, 8)), precision_of(Policy(8, 8, weight_scales="tensor"))
    ('w8a8', 'w8a8 tensor')
    """
    return f"w{policy.weight_bits}a{policy.act_bits} {policy.weight_scales}".rstrip()


def group_of(block: SubBlock) -> str:
    """Group for which a recipe is chosen: kind, variant and precision of a sub-block."""
    return f"{block.kind}/{block.variant} {precision_of(block.policy)}"


def recipe_for(block: SubBlock, recipes: Book | Sequence[str]) -> str:
    """The recipe that a device runs a sub-block with.

    Args:
        block: the sub-block.
        recipes: group -> recipe as measured, or the recipes of a device, best first.

    Raises:
        CostError: the device has none for this precision.
    """
    if not isinstance(recipes, Mapping):
        return ranked(block, recipes)[0]
    chosen = recipes.get(group_of(block))
    if chosen is None:  # a group that was not measured: what its precision runs with elsewhere
        known = list(dict.fromkeys(recipes.values()))
        some = any(find_recipe(name).serves(block.policy) for name in known)
        chosen = ranked(block, known if some else RECIPES)[0]
    return chosen
