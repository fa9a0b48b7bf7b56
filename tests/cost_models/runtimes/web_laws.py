"""Laws of a runtime of the web, beside those of every runtime."""

import numpy as np
import pytest

from vitpareto.cost_models.runtimes import run_all
from vitpareto.cost_models.runtimes.contract import RuntimeContract
from vitpareto.cost_models.standalone.timing import measure_alone
from vitpareto.spaces.errors import CostError

from ...shared import needs_device


class WebLaws(RuntimeContract):
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        needs_device(self.device.name)

    def test_it_is_timed_where_it_runs(self) -> None:
        """The way there takes longer than the network, and is not in its time."""
        compiled = self.compiled()
        watch = compiled.stopwatch(np.zeros(compiled.input_shape, np.float32))
        few, many = watch(3, 1, 50), watch(3, 400, 0)
        assert len(few) == len(many) == 3
        assert 0.2 < min(few) / min(many) < 5 and max(many) < 1.0
        assert measure_alone(watch).median_ms < 1.0

    def test_fresh_memory_holds_nothing_and_models_open_again(self) -> None:
        """The peak begins anew and grows with a model; what was compiled before still answers."""
        runtime, compiled = self.runtime, self.compiled()
        images = np.ones(compiled.input_shape, np.float32)
        answer = compiled.run(images).copy()
        runtime.renew()
        first = runtime.peak_mb()
        assert (compiled.run(images) == answer).all()
        grown = runtime.peak_mb()
        assert 0.1 < first < grown
        runtime.renew()
        assert runtime.peak_mb() == first

    def test_several_runs_are_one_job(self) -> None:
        """Any number of inputs in one call gives what each gives alone, other shapes none."""
        compiled = self.compiled()
        images = np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32)
        alone = np.concatenate([compiled.run(x) for x in np.split(images, 3)])
        assert (compiled.run(images) == alone).all()
        assert (run_all(compiled, images, 2) == alone).all()
        for shape in ((3, 3, 8, 8), (2, 3, 8, 9)):
            with pytest.raises(CostError, match=r"takes inputs of \[2, 3, 8, 8\], got \["):
                compiled.run(np.zeros(shape, np.float32))

    def test_forgotten_models_are_closed(self) -> None:
        """Memory does not grow with every model that was ever opened."""
        runtime, content = self.runtime, self.encoded()
        runtime.renew()
        peaks = []
        for _ in range(40):
            runtime.compile(content).run(np.ones((2, 3, 8, 8), np.float32))
            peaks.append(runtime.peak_mb())
        assert peaks[-1] - peaks[4] < 0.1 * (peaks[4] - peaks[0] + 1)
