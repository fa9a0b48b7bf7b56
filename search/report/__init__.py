"""Report: the results of a run, from its files alone."""

from ...spaces.files import write_atomic
from ..config import load_config
from ..run.crossing import cross
from ..store.run_folder import RunFolder
from .devices import devices_page
from .facts import gather
from .page import page
from .picture import front_png


def build_report(folder: RunFolder) -> None:
    """Write `pareto.png` and `report.html` into a run folder, of several devices for each, too.

    Raises:
        RunError: nothing was delivered yet, or a file is missing, damaged or cannot be written.
    """
    folder = folder.of("")
    sides = {name: gather(folder.of(name)) for name in load_config(folder.config).by_device}
    for facts in sides.values():
        write_atomic(facts.folder.picture, front_png(facts))
        write_atomic(facts.folder.report, page(facts))
    if len(sides) > 1:
        write_atomic(folder.picture, front_png(*sides.values()))
        write_atomic(folder.report, devices_page(cross(folder), sides))
