"""Errors of the parts of a cost model on public tables that others measured.

The tables are looked for in the folder that the environment names as VITPARETO_DATA; it holds
`nnmeter_vit_lut/`, `hat/` and `mobile_ml_benchmark/`. Nothing is measured, so one core needs half
a minute: `python -m tests.bench._public_tables`. The noise floor is the spread that a table itself
gives for its runs; nn-Meter's gives none.
"""

import os
from pathlib import Path

import numpy as np

from vitpareto.cost_models.foreign import drift as drifts
from vitpareto.cost_models.foreign.table_checks import check_table
from vitpareto.cost_models.foreign.tables import (
    ForeignTable,
    read_hat,
    read_matrix,
    read_nnmeter_blocks,
)
from vitpareto.cost_models.foreign.transfer import farthest, transfer
from vitpareto.cost_models.predict import conformal
from vitpareto.cost_models.predict.error_figures import mape, within
from vitpareto.cost_models.predict.regressor import Regressor, matrix_of, nnls

from ._row import HEADER, row

Array = np.ndarray
STEPPED = ("iwslt14deen_gpu_titanxp", "wmt14ende_cpu_raspberrypi", "wmt14ende_gpu_titanxp",
           "wmt19ende_gpu_titanxp")  # fmt: skip
DRAWS = 10  # random splits
TRAIN, CALIBRATE = 100, 50  # rows behind an interval


def main() -> None:
    """Print one table: name, figure, bar, noise floor."""
    given = os.environ.get("VITPARETO_DATA")
    if given is None:
        print("public tables: set VITPARETO_DATA to the folder that holds them")
        return
    folder = Path(given) / "latency" if (Path(given) / "latency").is_dir() else Path(given)
    print(HEADER)
    for name, show in (
        ("nnmeter_vit_lut/vit_block_lut.csv.gz", blocks),
        ("hat", transformers),
        ("mobile_ml_benchmark", phones),
    ):
        if (folder / name).exists():
            show(folder / name)
        else:
            row(name, "absent")


def blocks(path: Path) -> None:
    """ViT blocks on phones (nn-Meter): few samples, and another phone."""
    table = read_nnmeter_blocks(path)
    bars = {"transattn": 5.2, "transffn": 2.7, "transds": 3.3, "conv": 4.1}
    for group, bar in bars.items():
        part = table.of_group(group)
        errors = [few(part, device, 50, seed) for device in part.ms for seed in range(3)]
        row(f"nn-Meter {group}, 50 samples: MAPE", f"{np.mean(errors):.2f} %", f"{bar} %", "-")
    errors = [
        moved(table.of_group(group), device, 10, seed)
        for device in table.ms
        for group in bars
        for seed in range(3)
    ]
    what = "nn-Meter, a phone left out, 10 samples a block kind: MAPE"
    row(what, f"{np.mean(errors):.2f} %", "4.1 %", "-")


def few(table: ForeignTable, device: str, count: int, seed: int) -> float:
    """Error of a regressor on rows it has not seen."""
    order = np.random.default_rng(seed).permutation(len(table))
    train, test = table.rows(order[:count]), table.rows(order[count : count + 500])
    model = Regressor.fit(train.terms, train.numbers, train.ms[device])
    return mape(test.ms[device], model.predict(test.terms, test.numbers).ms)


def moved(table: ForeignTable, device: str, count: int, seed: int) -> float:
    """Error of a transfer from other phones, with a few rows of this one."""
    sources = np.array([ms for name, ms in table.ms.items() if name != device])
    order = np.random.default_rng(seed).permutation(len(table))
    predicted = transfer(sources, order[:count], table.ms[device][order[:count]])
    return mape(table.ms[device][order[count:]], predicted[order[count:]])


def transformers(folder: Path) -> None:
    """HAT's Transformers: its own split, without the steps of its machines, and intervals."""
    tables = {path.stem.removesuffix("_all"): read_hat(path) for path in sorted(folder.glob("*"))
              if path.suffix == ".csv"}  # fmt: skip
    floors = {name: 100 * float(np.mean([*t.spread.values()])) for name, t in tables.items()}
    floor = f"{np.mean([*floors.values()]):.1f} %"
    own = {name: own_split(table) for name, table in tables.items()}
    for name, (error, _) in own.items():
        row(f"HAT {name}, own split: MAPE", f"{error:.2f} %", "", f"{floors[name]:.1f} %")
    errors, shares = np.transpose([*own.values()])
    # The bars are means over eight sets; the one that is not there is the quietest of all.
    row(f"HAT, own split of {len(own)} sets: mean MAPE", f"{errors.mean():.2f} %",
        "2.6 % of 8", floor)  # fmt: skip
    row(f"HAT, own split of {len(own)} sets: within 10 %", f"{shares.mean():.1f} %", "97.9 % of 8")
    for name, table in tables.items():
        size, error = without_steps(table)
        bar = {"titanxp": "2.1 %", "raspberrypi": "1.7 %"}[name.rpartition("_")[2]] if (
            name in STEPPED) else ""  # fmt: skip
        what = f"HAT {name}, steps of {size:.0%} divided out: MAPE"
        row(what, f"{error:.2f} %", bar, f"{floors[name]:.1f} %")
    fired = {name for name, t in tables.items() if any(f.check == "drift" for f in check_table(t))}
    expected = set(STEPPED) & set(tables)
    row("HAT: sets in which drift is found, where there is some",
        f"{len(fired & expected)}", f"{len(expected)}")  # fmt: skip
    row("HAT: and where there is none", f"{len(fired - expected)}", "0")
    shares = np.array([[coverage(t, seed) for seed in range(DRAWS)] for t in tables.values()])
    row("HAT, random order: nominal 90 % intervals cover", f"{100 * shares.mean():.1f} %",
        "88 to 92 %", f"{100 * shares.mean(1).std() / np.sqrt(len(shares)):.1f} %")  # fmt: skip


def own_split(table: ForeignTable) -> tuple[float, float]:
    """Error on the last 200 rows, and share within 10 %, as HAT's own predictors are tested.

    Coefficients are of the first 1,600 rows. The 200 between are HAT's for validation; they tell
    how fast the machine is when the test begins, which anchors would have told.
    """
    (ms,) = table.ms.values()
    terms = matrix_of(table.terms, list(table.terms[0]))
    train, before, test = slice(0, 1600), slice(0, 1800), slice(1800, 2000)

    def expected(values: Array) -> Array:
        return terms[before] @ relative_fit(terms[train], values[train])

    flat, speed = drifts.undrifted(ms[before], expected)
    guess = terms @ relative_fit(terms[train], flat[train]) * speed[-1]
    guess *= np.median(ms[1600:1800] / guess[1600:1800])
    return mape(ms[test], guess[test]), within(ms[test], guess[test], 0.1)


def without_steps(table: ForeignTable) -> tuple[float, float]:
    """The largest step in a machine's speed, and the error of 400 random rows without steps."""
    (ms,) = table.ms.values()
    terms = matrix_of(table.terms, list(table.terms[0]))
    flat, speed = drifts.undrifted(ms, lambda values: terms @ relative_fit(terms, values))
    order = np.random.default_rng(1).permutation(len(ms))
    some, rest = table.rows(order[:400]), table.rows(order[1600:])
    model = Regressor.fit(some.terms, some.numbers, flat[order[:400]])
    error = mape(flat[order[1600:]], model.predict(rest.terms, rest.numbers).ms)
    return drifts.size(speed), error


def coverage(table: ForeignTable, seed: int) -> float:
    """Share of a table that lies in its nominal 90 % intervals, from 150 rows of it."""
    (ms,) = table.ms.values()
    order = np.random.default_rng(seed).permutation(len(ms))
    train, held, rest = np.split(order, [TRAIN, TRAIN + CALIBRATE])
    some = table.rows(train)
    guess = Regressor.fit(some.terms, some.numbers, ms[train]).predict(table.terms, table.numbers)
    scores = conformal.scores(ms, guess.ms, guess.sd + 0.01)
    return float(np.mean(scores[rest] <= conformal.quantile(scores[held], 0.9)))


def relative_fit(terms: Array, ms: Array) -> Array:
    """Non-negative coefficients of the smallest relative errors."""
    return nnls(terms / ms[:, None], np.ones(len(ms)))


def phones(folder: Path) -> None:
    """Real ViTs on phones: 10 measurements on one, and others that are known."""
    for runtime, others, cores in (("torch", 4.7, 2.4), ("tflite", 3.1, 1.7)):
        table = read_matrix(folder / f"{runtime}_transformer_e2e.csv")
        floor = 100 * np.nanmedian([*table.spread.values()])
        for what, bar in (("other phones", others), ("its other cores and other phones", cores)):
            errors = [
                error
                for device in table.ms
                if (error := from_others(table, device, what == "other phones")) is not None
            ]
            label = f"{runtime} ViTs from {what}: MAPE"
            row(label, f"{np.median(errors):.2f} %", f"{bar} %", f"{floor:.1f} %")


def from_others(table: ForeignTable, device: str, away: bool) -> float | None:
    """Error of a device from 10 measurements; None where too little is known.

    Args:
        table: of all devices.
        device: phone, cores and precision.
        away: whether nothing is known of the phone's other cores.
    """
    phone, core, precision = device.split("|")
    sources = [
        name
        for name, ms in table.ms.items()
        if name != device
        and name.split("|")[2] == precision
        and "gpu" not in (name.split("|")[1], core)
        and not (away and name.split("|")[0] == phone)
        and np.isfinite(ms).mean() >= 0.7
    ]
    if not away and not any(name.split("|")[0] == phone for name in sources):
        return None
    every = np.array([table.ms[name] for name in [*sources, device]])
    every = every[:, np.isfinite(every).all(0)]
    if every.shape[1] < 18:
        return None
    at = np.array(farthest(every[:-1], 10))
    rest = np.setdiff1d(np.arange(every.shape[1]), at)
    return mape(every[-1, rest], transfer(every[:-1], at, every[-1, at])[rest])


if __name__ == "__main__":
    main()
