"""A run that was finished, as it lies and as the report has read it."""

import shutil
from pathlib import Path

import pytest

from vitpareto.search.report.facts import Facts, gather
from vitpareto.search.store.run_folder import RunFolder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    path = tmp_path / "moved"
    shutil.copytree(finished, path)
    return path


@pytest.fixture(scope="session")
def facts(finished: Path) -> Facts:
    return gather(RunFolder(finished, lock=False))
