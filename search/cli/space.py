"""Commands about search spaces."""

from __future__ import annotations

import random
import shlex
from pathlib import Path

import click

from .options import new_file
from .output import json_option, print_json

MOST = 100_000  # candidates of a sample


@click.group()
def space() -> None:
    """Look into a search space before anything is trained."""


space_argument = click.argument("source", metavar="SPACE")


@space.command()
@space_argument
@json_option
def show(source: str, as_json: bool) -> None:
    """Print what SPACE, a file or a preset, holds; NAME@PIXELS is a preset for other images."""
    from ...spaces import SearchSpace
    from .describe import describe_space, space_text

    opened = SearchSpace.from_yaml(source)
    if as_json:
        print_json(describe_space(opened))
    else:
        click.echo(space_text(opened))


@space.command()
@space_argument
@json_option
def size(source: str, as_json: bool) -> None:
    """Print how many different candidates SPACE has, exactly."""
    from ...spaces import SearchSpace

    candidates = SearchSpace.from_yaml(source).size
    if as_json:
        print_json({"size": candidates})
    else:
        click.echo(candidates)


@space.command()
@space_argument
@click.option("-n", "count", type=click.IntRange(1, MOST), default=1, help="How many.")
@click.option("--seed", type=int, default=0, help="The same seed draws the same candidates.")
@json_option
def sample(source: str, count: int, seed: int, as_json: bool) -> None:
    """Draw candidates from SPACE; --json prints what `predict` and `export` read."""
    from ...spaces import SearchSpace
    from .describe import describe_candidate, facts

    opened, rng = SearchSpace.from_yaml(source), random.Random(seed)
    candidates = (opened.draw(rng) for _ in range(count))  # as `sample`, each shown once drawn
    if as_json:
        print_json([describe_candidate(candidate) for candidate in candidates])
    else:
        click.echo(f"{'key':16}  {'blocks':>6}  {'params':>12}  {'MACs':>14}  {'weights':>10}")
        for candidate in candidates:
            f = facts(candidate)
            click.echo(
                f"{f['key']}  {f['blocks']:6}  {f['params']:12,}  {f['macs']:14,}  "
                f"{f['weight_mb']:7.2f} MB"
            )


@space.command()
@click.argument("model")
@click.option(
    "--checkpoint",
    metavar="FILE",
    default="",
    help="Its weights: .safetensors, .pth, a training checkpoint of timm, or .npz of JAX.",
)
@click.option("--random-weights", is_flag=True, help="Read no weights; nothing is downloaded.")
@click.option("--classes", type=click.IntRange(min=0), help="Of its head; those of its weights.")
@click.option("--input-size", type=click.IntRange(min=1), help="Pixels; those of the model.")
@click.option(
    "--search",
    "choices",
    metavar="NAME,...",
    default="",
    help="Only these choices, such as weight_bits,rank_ratio,token_keep; all that suit by default.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="SPACE.yaml",
    callback=new_file,
    help="A new file.",
)
@json_option
def derive(
    model: str,
    checkpoint: str,
    random_weights: bool,
    classes: int | None,
    input_size: int | None,
    choices: str,
    out: Path,
    as_json: bool,
) -> None:
    """Write a space whose largest member is MODEL, a vision transformer of others.

    MODEL is a name of timm, hf-hub:ORG/NAME, a folder that transformers or timm saved
    (local-dir:PATH), or torchvision:NAME. Its logits are compared with those of the member.
    """
    from ...spaces.files import write_atomic
    from ..start.derive import derived
    from ..start.models import open_model

    opened = open_model(
        model,
        checkpoint=checkpoint,
        random_weights=random_weights,
        classes=classes,
        input_size=input_size,
    )
    names = [name.strip() for name in choices.split(",") if name.strip()]
    made, found = derived(opened, model, names)
    given = {
        "--checkpoint": checkpoint,
        "--classes": classes,
        "--input-size": input_size,
        "--search": choices,
    }
    options = [
        word
        for name, value in given.items()
        if value not in ("", None)
        for word in (name, str(value))
    ]
    options += ["--random-weights"] * random_weights
    command = shlex.join(["vitpareto", "space", "derive", model, *options, "--out", out.name])
    header = (
        f"# Purpose: slices of {model}, which is the largest member.\n"
        f"# Expected: {made.size:.1e} candidates of at most {found['params'] / 1e6:.1f} million "
        f"parameters, {found['macs'] / 1e6:.0f} million MACs.\n"
        f"# Command: {command}\n"
    )
    write_atomic(out, header + made.to_yaml())
    if as_json:
        print_json(found | {"space": str(out)})
    else:
        click.echo(
            f"{out}: {made.size:.1e} candidates, the largest is {model} (key {found['key']}): "
            f"{found['params']:,} parameters, {found['macs']:,} MACs, logits differ by "
            f"{found['max_abs_difference']:.1e}"
        )
