"""Records `tests/data/digits_small.csv`: every candidate of a space, scored by shared weights.

`taskset -c 0 python -m tests.bench._record FOLDER` trains teacher and supernet as the digits preset
does, measures this machine, and scores 5,280 candidates on the search split: some fifteen minutes
on one core. Stages that FOLDER holds already are not repeated.
"""

import csv
import io
import sys
from pathlib import Path

from tests.search.table import DATA, enumerate_space
from vitpareto.search.config import load_config
from vitpareto.search.console import progress
from vitpareto.search.executors import LocalExecutor
from vitpareto.search.run.assets import Run
from vitpareto.search.run.opening import open_run
from vitpareto.search.store.atomic_files import write_atomic

OVERRIDES = (
    f"space={DATA / 'digits_small.yaml'}",
    "forecast.candidates=0",  # accuracies as they are scored
    "executor.threads=1",
)


def main(path: Path) -> None:
    """Score what is not in the run folder yet, and write the table."""
    with open_run(load_config("digits", OVERRIDES), path, resume=True) as folder:
        run = Run(folder)
        candidates, costs = enumerate_space(run.space), run.costs
        images = len(run.data.split("search"))
        scoring = run.scoring(LocalExecutor(), folder.evaluations)
        rows = [("key", f"correct_of_{images}", "latency_us")]
        with progress(len(candidates), "scored") as bar:
            for candidate in candidates:
                scoring.submit(candidate, costs(candidate))
                metrics = scoring.result(candidate.key).metrics
                correct = round(metrics["accuracy"] * images)
                rows.append((candidate.key, str(correct), f"{metrics['latency_ms'] * 1e3:.2f}"))
                bar.update()
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomic(DATA / "digits_small.csv", text.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
