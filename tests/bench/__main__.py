"""Runs the benchmarks: `python -m tests.bench [NAME... [--OPTION ...]]`; a name is a file here.

Options are for one benchmark, which says with `--help` what it takes.
"""

import importlib
import sys
from itertools import takewhile
from pathlib import Path

KNOWN = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))

names = list(takewhile(lambda argument: not argument.startswith("-"), sys.argv[1:]))
options = sys.argv[1 + len(names) :]
if unknown := set(names) - set(KNOWN):
    sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(KNOWN)}")
if options and len(names) != 1:
    sys.exit(f"{' '.join(options)}: options are for one benchmark; there are: {', '.join(KNOWN)}")
for name in names or KNOWN:
    print(f"== {name}")
    importlib.import_module(f"{__package__}.{name}").main(*options)
