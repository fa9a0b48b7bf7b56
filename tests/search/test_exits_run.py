"""A search over exits, from the space to the report."""

from pathlib import Path

import pytest
import yaml

from vitpareto.search.delivery.manifest import manifests

from .conftest import TINY, invoke


@pytest.mark.slow
@pytest.mark.onnx
def test_a_search_over_exits(run_file: Path, tmp_path: Path) -> None:
    """All of its models have exits, are measured with their shares, and drawn."""
    space = TINY.replace("depth: [1, 2]", "depth: [2, 3]\n    exits: [1, '1,2']")
    (tmp_path / "space.yaml").write_text(space)
    config = yaml.safe_load(run_file.read_text()) | {"space": str(tmp_path / "space.yaml")}
    config["finish"] |= {"epochs": 4, "exit_drop": 0.05}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    run = tmp_path / "run"
    done = invoke("search", tmp_path / "run.yaml", "--run-dir", run)
    assert done.exit_code in (0, 3), done.output  # so little measuring may leave a check unmet
    delivered = manifests(run / "pareto")
    assert delivered
    for manifest in delivered:
        exits, metrics = manifest.exits, manifest.metrics
        assert exits and metrics and exits.shares and exits.part_ms and exits.test_shares
        assert metrics.accuracy >= exits.whole_accuracy - 0.05 - 0.01
        assert all(c.holds for c in manifest.checks if "torch" in c.name), manifest.checks
        assert "on average" in manifest.status
    report = (run / "report.html").read_text()
    assert "Early exits" in report and "nobody leaves" in report
    again = invoke("verify", run)
    assert again.exit_code in (0, 3), again.output
