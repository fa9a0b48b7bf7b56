"""Command `vitpareto profile`: where the time and the memory of a model go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..letters import letters_of
from .folders import open_if_free
from .output import echo, json_option, print_json

if TYPE_CHECKING:
    from ...cost_models.profile.half_range import HalfRange
    from ...cost_models.profile.profile import Profile


@click.command()
@click.argument("source", metavar="MODEL|CANDIDATE|RUN")
@click.option(
    "--device",
    metavar="DEVICE",
    help="A preset or a file; that of the run or of the delivered model, or cpu-1t, by default. Of "
    "a RUN for several, the one whose models are meant.",
)
@click.option(
    "--pick",
    default="good",
    show_default=True,
    metavar="good|knee|fastest|best|LETTER|KEY",
    help="Which of a RUN is printed; its report shows all.",
)
@click.option(
    "--fp16",
    is_flag=True,
    help="Also whether weights and activations of the picked model of a RUN stay in float16.",
)
@json_option
def profile(source: str, device: str | None, pick: str, fp16: bool, as_json: bool) -> None:
    """Print where the time and the memory of a model go, and which block to change first.

    MODEL is a name of timm, a folder of transformers or timm, or torchvision:NAME; weights are
    random, as they change neither. CANDIDATE is JSON or YAML of one, or the folder of a delivered
    or exported model. Of a RUN all delivered models are looked into, and its report shows them.

    Kernels are timed by the runtime's own profiler, the model without it, and in turn with both
    the fastest product and the fastest copying of this machine, in the same process and threads.
    So each block is bound by computing, by moving bytes, or by what is neither: overhead.

    \b
      vitpareto profile deit_tiny_patch16_224
      vitpareto profile runs/digits --pick best --json
    """  # noqa: D301
    path = Path(source).expanduser()
    half: list[HalfRange] = []
    if (path / "config.yaml").is_file():
        name, found, half = _of_run(path, device, pick, fp16)
    elif fp16:
        raise click.UsageError("--fp16 needs a run folder, whose images show the activations")
    else:
        from ...cost_models import Device
        from ...cost_models.profile.taking import check_profiles, take_profile
        from ..delivery.subject import subject_of

        if opened := Device.load(device) if device else None:
            check_profiles(opened)
        subject = subject_of(source, opened)
        check_profiles(subject.device)
        name = subject.name
        found = take_profile(subject.device, subject.candidate, subject.encode())
    if as_json:
        print_json(found.to_dict() | ({"fp16": [r.to_dict() for r in half]} if fp16 else {}))
    else:
        from .profile_text import half_lines, profile_lines

        echo(profile_lines(name, found) + (half_lines(half) if fp16 else []))


def _of_run(
    path: Path, named: str | None, pick: str, fp16: bool
) -> tuple[str, Profile, list[HalfRange]]:
    """Profile every delivered model of a run, which keeps them; name and profile of the picked.

    With them the ranges of its numbers, where it is asked whether they stay in float16.

    Of a run for several devices the models are those for the named one.
    """
    from ...cost_models import Device
    from ...cost_models.profile.taking import check_profiles, take_profile
    from ..config import load_config
    from ..console import share_bar
    from ..delivery.manifest import manifests
    from ..delivery.pick import pick_model
    from ..delivery.subject import check_here, delivered
    from ..experiments.half_range import ranges_in_half
    from ..report import build_report
    from ..run.assets import Run
    from ..run.devices import of_device
    from ..store.atomic_files import write_json

    whole = open_if_free(path)
    with whole:
        if "" in load_config(whole.config).by_device:
            folder, device = whole, Device.load(named) if named else None
        else:
            folder, device = of_device(whole, named), None
        listed = manifests(folder.pareto)
        chosen = pick_model(listed, pick)
        if device is None:
            check_here(chosen)
        check_profiles(device or chosen.device)
        profiles: dict[str, Profile] = {}
        names = {m.key: f"{x} ({m.key})" for x, m in zip(letters_of(listed), listed, strict=True)}
        with share_bar("profile") as report:
            for done, key in enumerate(names):
                report(done / len(names), names[key])
                subject = delivered(folder.pareto / key, device)
                profiles[key] = take_profile(subject.device, subject.candidate, subject.encode())
        if folder.is_open:
            rows = [{"key": key, **found.summary()} for key, found in profiles.items()]
            write_json(folder.profiles, rows)
            if folder.report.exists():
                build_report(folder)
        half = ranges_in_half(Run(folder), chosen.key) if fp16 else []
    return f"{folder.path} {names[chosen.key]}", profiles[chosen.key], half
