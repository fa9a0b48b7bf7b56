"""Runs the benchmarks: `python -m tests.bench [NAME...]`; a name is a file of this folder."""

import importlib
import sys
from pathlib import Path

KNOWN = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))

if unknown := set(sys.argv[1:]) - set(KNOWN):
    sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(KNOWN)}")
for name in sys.argv[1:] or KNOWN:
    print(f"== {name}")
    importlib.import_module(f"{__package__}.{name}").main()
