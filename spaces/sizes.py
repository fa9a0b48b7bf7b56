"""Sizes: a preset at another image size, and the sizes at which a space can be built.

A preset keeps its token grids as near as whole patches allow: its patches grow and shrink with the
images, so that mixers see about as many tokens as they were chosen for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain, islice
from typing import Any

from .architecture import HALVING
from .errors import ConfigError

SIZES = range(8, 1025)  # pixels that a preset can be asked for
NEAR = math.sqrt(2)  # factor by which a patch or window may differ from what is wanted
LEAST_GRID = 2  # side of the last token grid, which pooled keys and values halve
LEAST_PATCH = {"patch": 1, "conv": 2, "convs": 2, "mobile": 2, "overlap": 2}  # of each stem
AROUND = 5  # multiples of the patches that are tried below and above a size


def split_size(name: str) -> tuple[str, int | None]:
    """What stands before the @ of NAME@PIXELS, and the pixels; None without.

    >>> split_size("mobile_hybrid@96"), split_size("digits")
    (('mobile_hybrid', 96), ('digits', None))

    Raises:
        ConfigError: no pixels, or not in `SIZES`.
    """
    own, at, pixels = name.partition("@")
    if not at:
        return own, None
    if not pixels.isdecimal():
        raise ConfigError(f"{name}: need pixels behind @, such as {own}@96, got {pixels!r}")
    if int(pixels) not in SIZES:
        raise ConfigError(f"{name}: a size is {SIZES[0]} to {SIZES[-1]} pixels, got {pixels}")
    return own, int(pixels)


def at_size(spec: Mapping[str, Any], asked: int) -> dict[str, Any]:
    """A space with images of another size, and what that changes as its `description`.

    Its images have the nearest size, and no other where there were several. Its patches are the
    divisors of that size that change the number of tokens a side the least, by a factor of at most
    `NEAR`; smaller patches than a stem can have are not missed. Windows become the nearest size
    that divides the grids of their stage, squares of which each token sees one place the largest
    that does, and bands are cut to its tokens.

    >>> spec = {"name": "mine", "input_size": 32, "patch_size": [4, 8], "stages": [{}]}
    >>> made = at_size(spec, 97)
    >>> made["input_size"], made["patch_size"], made["description"]
    (96, [12, 24], 'mine@97: input_size 96, patch_size [12, 24] instead of [4, 8]')

    Args:
        spec: mapping of a space file.
        asked: side of the images in pixels, in `SIZES`.
    """
    own, patches = max(_listed(spec["input_size"])), _listed(spec["patch_size"])
    if asked == own:
        return dict(spec)
    halved, stem = _halvings(spec), str(spec.get("stem", "patch"))
    last = halved[-1]
    size, fitting = next(
        (size, fitting)
        for size in _outwards(asked, max(asked, own))
        if (fitting := _patches(size, [size * patch / own for patch in patches], last, stem))
    )
    grids = [sorted({size // patch >> times for patch in fitting}) for times in halved]
    changed: list[str] = []

    def replaced(name: str, value: Any, new: Sequence[int]) -> Any:
        """A number or list of the space file, and a note of what became of it."""
        new = list(dict.fromkeys(new))
        made = new if isinstance(value, list) and len(new) > 1 else new[0]
        if made != value and (note := f"{name} {made} instead of {value}") not in changed:
            changed.append(note)
        return made

    def fitted(part: Any, sides: Sequence[int]) -> Any:
        """Part of a stage with windows, squares and bands that fit its grids."""
        if isinstance(part, list):
            return [fitted(one, sides) for one in part]
        if not isinstance(part, Mapping):
            return part
        return {
            name: replaced(name, value, [FITTED[name](v, sides) for v in _listed(value)])
            if name in FITTED
            else fitted(value, sides)
            for name, value in part.items()
        }

    patch_size = replaced("patch_size", spec["patch_size"], fitting)
    outer = fitted({n: v for n, v in spec.items() if n != "stages"}, sorted({*chain(*grids)}))
    stages = [fitted(stage, sides) for stage, sides in zip(spec["stages"], grids, strict=True)]
    sizes = {"input_size": size, "patch_size": patch_size, "stages": stages}
    words = ", ".join([f"input_size {size}", *changed])
    about = {"name": f"{spec['name']}@{size}", "description": f"{spec['name']}@{asked}: {words}"}
    return outer | sizes | about


def sizes_near(spec: Mapping[str, Any], works: Callable[[Mapping[str, Any]], bool]) -> list[int]:
    """The nearest image sizes with which a space can be built, at most two.

    Args:
        spec: mapping of a space file that cannot be.
        works: whether one can.
    """
    size, patches = spec.get("input_size"), _listed(spec.get("patch_size"))
    if not isinstance(size, int) or not all(isinstance(p, int) and p > 0 for p in patches):
        return []
    step = math.lcm(*patches) << _halvings(spec)[-1]
    steps = range(max(1, size // step - AROUND), size // step + AROUND + 2)
    near = sorted((n * step for n in steps if n * step != size), key=lambda s: abs(s - size))
    fitting = (s for s in near if works({**spec, "input_size": s}))
    return sorted(islice(fitting, 2))


def _halvings(spec: Mapping[str, Any]) -> list[int]:
    """How often the grid was halved before each stage."""
    strides = [stage.get("stride", spec.get("stride", 2)) for stage in spec["stages"]]
    return list(accumulate((stride == 2 for stride in strides[1:]), initial=0))


def _outwards(middle: int, most: int) -> Iterator[int]:
    """Sizes by their distance, from the middle on, which is enough to meet any up to the most."""
    yield middle
    for distance in range(1, most):
        yield middle + distance
        if middle > distance:
            yield middle - distance


def _patches(size: int, wanted: Sequence[float], last: int, stem: str) -> list[int]:
    """The divisor of a size for each wanted patch; none where one is missing.

    Args:
        size: of the images.
        wanted: patches.
        last: number of halvings of the grid after the first.
        stem: of the network.
    """
    least = LEAST_PATCH[stem]
    possible = [
        patch
        for patch in range(least, size // LEAST_GRID + 1)
        if size % (patch << last) == 0
        and size // patch >> last >= LEAST_GRID
        and (stem not in HALVING or patch & (patch - 1) == 0)
    ]
    ideals = [max(float(least), ideal) for ideal in wanted]
    nearest = [min(possible, key=partial(_off, ideal=i), default=0) for i in ideals]
    pairs = zip(nearest, ideals, strict=True)
    return nearest if all(patch and _off(patch, ideal) <= NEAR for patch, ideal in pairs) else []


def _window(wanted: int, grids: Sequence[int]) -> int:
    """The nearest side of a window that divides most of the grids, and fits into all."""
    ideal = min([wanted, *grids])
    near = [side for side in range(1, min(grids) + 1) if _off(side, ideal) <= NEAR]
    return min(near, key=lambda side: (sum(grid % side > 0 for grid in grids), _off(side, ideal)))


def _band(wanted: int, grids: Sequence[int]) -> int:
    """The band, where all grids have more tokens; all but one token otherwise."""
    return min(wanted, min(grids) ** 2 - 1)


def _unfold(wanted: int, grids: Sequence[int]) -> int:
    """The largest square, of the one that is wanted at most, that divides all grids."""
    return next(s for s in range(wanted, 0, -1) if all(grid % s == 0 for grid in grids))


FITTED: dict[str, Callable[[int, Sequence[int]], int]] = {
    "window_size": _window,
    "band": _band,
    "unfold_size": _unfold,
    "attn_stride": _unfold,
}


def _off(value: float, ideal: float) -> float:
    """Factor between two numbers, at least 1."""
    return max(value / ideal, ideal / value)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]
