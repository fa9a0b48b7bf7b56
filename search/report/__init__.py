"""Report: the results of a run, from its files alone."""

from ...spaces.files import write_atomic
from ..store.run_folder import RunFolder
from .facts import gather
from .page import page
from .picture import front_png


def build_report(folder: RunFolder) -> None:
    """Write `pareto.png` and `report.html` into a run folder.

    Raises:
        RunError: nothing was delivered yet, or a file is missing, damaged or cannot be written.
    """
    facts = gather(folder)
    write_atomic(folder.picture, front_png(facts))
    write_atomic(folder.report, page(facts))
