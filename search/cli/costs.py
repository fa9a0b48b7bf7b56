"""Commands `vitpareto costs`: cost models for other tools, and from tables of other projects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import new_file
from .output import echo, json_option, print_json

if TYPE_CHECKING:
    from ...cost_models import LatencyTable
    from ...cost_models.units.sub_block import SubBlock

SAMPLE = 300  # networks of a space whose sub-blocks are collected

file_type = click.Path(path_type=Path)
out_option = click.option(
    "--out", type=file_type, required=True, callback=new_file, help="File to write, a new one."
)
space_option = click.option("--space", metavar="SPACE", help="File or preset: whose sub-blocks.")


@click.group()
def costs() -> None:
    """Look into cost models, exchange them with other tools, carry them to other devices."""


@costs.command()
@click.argument("model", type=file_type)
@click.option(
    "--blocks", "space", metavar="SPACE", help="Also each sub-block of the largest network of it."
)
@json_option
def show(model: Path, space: str | None, as_json: bool) -> None:
    """Print what MODEL knows: its device, how wrong it was, what was measured, energy.

    MODEL is what `calibrate` or `costs transfer` wrote, or cost_model.json of a run folder.

    \b
      vitpareto costs show cifar.json --blocks cifar
    """  # noqa: D301
    from ...cost_models import CostModel
    from .cost_text import block_rows, describe_model, model_text

    opened = CostModel.load(model)
    facts = describe_model(opened)
    if space is not None:
        from ...spaces import SearchSpace

        facts |= block_rows(opened, SearchSpace.from_yaml(space).largest())
    print_json(facts) if as_json else echo(model_text(facts))


@costs.command("import")
@click.argument("table", type=file_type)
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(["nnmeter", "hat", "matrix"]),
    help="nnmeter: block tables (device,key,latency_ms, or a phone's flat JSON). hat: "
    "latency_dataset/*.csv of HAT. matrix: a model a line, a device a column (HELP, "
    "mobile-ml-benchmark).",
)
@out_option
@json_option
def import_table(table: Path, form: str, out: Path, as_json: bool) -> None:
    """Check and fit the latency TABLE of another project; CSV, gzipped or not, or JSON.

    Says what is wrong with it (steps in the machine's speed, rounding, one device twice, sums given
    out as measurements), divides steps out, fits a predictor to each group of rows that have
    shapes and tests it on rows that it has not seen, and says how well each device follows from
    the others and ten measurements. Candidates are made of other sub-blocks, so that none is
    predicted from such a table; `costs transfer` takes it to a new device.

    \b
      vitpareto costs import vit_block_lut.csv.gz --format nnmeter --out phones.json
    """  # noqa: D301
    from ...cost_models.foreign.imported import fit_table
    from ...cost_models.foreign.tables import read_table
    from ..store.atomic_files import write_json
    from .cost_text import import_text

    imported = fit_table(read_table(table, form))
    write_json(out, imported.to_dict())
    print_json(imported.facts()) if as_json else echo(
        [*import_text(imported.facts()), f"Written: {out}"]
    )


@costs.command()
@click.argument("model", type=file_type)
@click.argument("measured", type=file_type, required=False)
@click.option("--out", type=file_type, callback=new_file, help="File to write, a new one.")
@space_option
@click.option(
    "--also",
    type=file_type,
    multiple=True,
    help="Model of one more known device, for a closer fit.",
)
@click.option(
    "--choose",
    type=click.IntRange(min=1),
    help="Instead: print the keys of so many sub-blocks that would tell most of a new device.",
)
@json_option
def transfer(
    model: Path,
    measured: Path | None,
    out: Path | None,
    space: str | None,
    also: tuple[Path, ...],
    choose: int | None,
    as_json: bool,
) -> None:
    """Make a cost model of a new device from MODEL and few measurements of its own.

    MEASURED is the CSV of a short `calibrate` on the new device, or the folder of a bundle or of a
    kit that was run there, with the same runtime and provider; networks in it fit the sums, and
    those kept aside validate the result.
    The interval is what sub-blocks were missed by, each predicted from the others.

    MODEL may also be what `costs import` wrote. MEASURED is then a CSV with the columns key and
    latency_ms, and no --space is needed.

    \b
      vitpareto calibrate phone.yaml --space cifar --budget-s 10 --out short.json
      vitpareto costs transfer cifar.json short.csv --space cifar --out phone.json
    """  # noqa: D301
    from ...cost_models.foreign.imported import load_imported

    imported = load_imported(model)
    if choose is None and (measured is None or out is None):
        raise click.UsageError("MEASURED and --out are needed, or --choose")
    if imported is not None:
        if measured is None or out is None or also:
            raise click.UsageError("an imported table needs MEASURED and --out, and has no --also")
        _transfer_table(imported, measured, out, as_json)
        return
    if space is None:
        raise click.UsageError("--space is needed: whose networks will be predicted")
    from ...cost_models import CostModel
    from ...cost_models.foreign.transferred import telling_units, transfer_model
    from .cost_text import figures

    models, blocks = [CostModel.load(path) for path in (model, *also)], _blocks(space)
    if choose is not None:
        keys = telling_units(models, blocks, choose)
        print_json(keys) if as_json else echo(keys)
        return
    assert measured is not None and out is not None
    moved = transfer_model(models, _measured(measured), blocks)
    moved.save(out)
    told = moved.validation
    print_json(told) if as_json else echo([*figures(told), f"Written: {out}"])


@costs.command()
@click.argument("source", metavar="MODEL|TABLE.csv", type=file_type)
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(["csv", "nnmeter", "ofa", "vectors"]),
    help="csv: a line a sub-block. nnmeter: JSON of key to ms, as nn-Meter's tables. ofa: JSON of "
    "key to count, mean and std, as Once-for-all's. vectors: candidates with all parts and costs, "
    "to test another implementation with.",
)
@out_option
@space_option
@click.option("-n", "count", type=click.IntRange(min=1), default=20, help="Candidates of vectors.")
@click.option("--seed", type=int, default=0, help="Of these.")
@json_option
def export(
    source: Path, form: str, out: Path, space: str | None, count: int, seed: int, as_json: bool
) -> None:
    """Write a cost model for other tools: latencies of sub-blocks in their formats.

    Of a MODEL these are predictions of every sub-block of a space, inside a network, and rounds or
    counts are 0; of TABLE.csv, which `calibrate` keeps beside its model, they are measurements.

    \b
      vitpareto costs export cifar.json --space cifar --format nnmeter --out lut.json
      vitpareto costs export cifar.csv --format ofa --out measured.json
    """  # noqa: D301
    from ...cost_models import CostModel, LatencyTable
    from ...cost_models.foreign.exchange import predicted_table, reference_vectors
    from ..store.atomic_files import write_atomic

    if source.suffix.lower() == ".csv" and form != "vectors":
        written, entries = _in_format(LatencyTable.load(source), form)
    else:
        model = CostModel.load(source)
        if space is None:
            raise click.UsageError("--space is needed: a model predicts any sub-block")
        if form == "vectors":
            sampled = _sample(space, count, seed)
            vectors = reference_vectors(model, sampled)
            written, entries = json.dumps(vectors, indent=1) + "\n", len(sampled)
        else:
            written, entries = _in_format(predicted_table(model, _blocks(space)), form)
    write_atomic(out, written)
    about = {"path": str(out), "format": form, "entries": entries}
    print_json(about) if as_json else echo([f"{out}: {entries} entries"])


def _measured(path: Path) -> LatencyTable:
    """What was measured, from a table or where a bundle or a kit was run."""
    from ...cost_models import LatencyTable

    if not path.is_dir():
        return LatencyTable.load(path)
    from ...cost_models.calibration.bundle import collect, sets_in

    return collect(sets_in(path))


def _in_format(table: LatencyTable, form: str) -> tuple[str, int]:
    """Text of a file, and its number of entries."""
    from ...cost_models.foreign.exchange import to_csv, to_flat, to_ofa

    if form == "csv":
        text = to_csv(table)
        return text, text.count("\n") - 1
    latencies = (to_flat if form == "nnmeter" else to_ofa)(table)
    return json.dumps(latencies, indent=1) + "\n", len(latencies)


def _transfer_table(imported: dict[str, Any], measured: Path, out: Path, as_json: bool) -> None:
    """Run `costs transfer` on an imported table."""
    from ...cost_models.foreign.tables import read_measured
    from ...cost_models.foreign.transferred import transfer_table
    from ..store.atomic_files import write_json
    from .cost_text import figures

    device = measured.name.partition(".")[0]
    tables = transfer_table(imported, read_measured(measured), device)
    write_json(out, tables)
    facts = {"device": device} | {
        name: value for name, value in tables["devices"][device].items() if name != "latency_ms"
    }
    print_json(facts) if as_json else echo([*figures(facts), f"Written: {out}"])


def _sample(space: str, count: int, seed: int = 0) -> Sequence[Any]:
    from ...spaces import SearchSpace

    opened = SearchSpace.from_yaml(space)
    return opened.sample(min(count, opened.size), seed)


def _blocks(space: str) -> list[SubBlock]:
    """Distinct sub-blocks in a sample of a space."""
    from ...cost_models.foreign.exchange import blocks_of
    from ...spaces import SearchSpace

    opened = SearchSpace.from_yaml(space)
    return blocks_of([opened.smallest(), opened.largest(), *_sample(space, SAMPLE)])
