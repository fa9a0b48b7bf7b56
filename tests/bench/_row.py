"""Prints figures as rows of a table, each with its bar and its noise floor beside it."""

HEADER = f"{'':62} {'figure':>12}   {'bar':14} noise floor"


def row(what: str, figure: str, bar: str = "", floor: str = "") -> None:
    """Print one figure.

    Args:
        what: name of the figure.
        figure: with its unit.
        bar: to reach.
        floor: noise of the data, below which no figure can come.
    """
    print(f"{what:62} {figure:>12}   {bar:14} {floor}".rstrip(), flush=True)
