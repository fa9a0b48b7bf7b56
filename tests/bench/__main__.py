"""Runs the benchmarks: `python -m tests.bench [NAME...]`; a name is a file of this folder.

Options are those of the one benchmark that is named: `python -m tests.bench runtimes --help`.
"""

import importlib
import inspect
import sys
from itertools import takewhile
from pathlib import Path

KNOWN = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))

names = list(takewhile(lambda word: not word.startswith("-"), sys.argv[1:]))
options = sys.argv[1 + len(names) :]
if unknown := set(names) - set(KNOWN):
    sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(KNOWN)}")
for name in names or KNOWN:
    main = importlib.import_module(f"{__package__}.{name}").main
    if options and (len(names) > 1 or not inspect.signature(main).parameters):
        sys.exit(f"{options[0]}: {name} takes no options, or is not named alone")
    print(f"== {name}")
    main(*([options] if options else []))
