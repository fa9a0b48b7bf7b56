"""Laws of what a mixer costs, for the tests of whoever adds one; see `spaces.contract`."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import numpy as np
import torch
from onnx import numpy_helper

from ...spaces.contract import MixerCase, few_with_each, images, traits
from ...spaces.supernet import blueprint
from ..device import Device
from ..runtimes import open_runtime
from ..units.sub_block import SubBlock
from ..units.unit import Unit, unit_of
from ..units.vectorized import alike
from ..units.workload import workload
from .linear_layers import OnnxGraph
from .modules import build, locate
from .to_onnx import to_onnx


class MixerCostContract(MixerCase):
    """Its sub-blocks have keys that can be read, exact counts, and graphs that a runtime runs."""

    def test_counts_are_those_of_the_network(self) -> None:
        """Parameters of all sub-blocks are those of the whole."""
        for candidate in self.candidates():
            network, _ = blueprint(candidate.architecture)
            assert workload(candidate).params == sum(p.numel() for p in network.parameters())

    def test_sub_blocks_are_found_in_the_network(self) -> None:
        """Every sub-block has its module."""
        for candidate in self.candidates():
            (network, _), units = blueprint(candidate.architecture), locate(candidate)
            for path, unit in units.items():
                network.get_submodule(path)
                assert (path.rpartition(".")[2] == "mlp") == (unit.kind == "mlp")

    def test_keys_are_read_back(self) -> None:
        """A table's key says all that matters to its cost."""
        for unit in self.units():
            again = unit_of(SubBlock.parse(unit.block.key), unit.recipe)
            assert again.key == unit.key
            assert (again.terms, again.numbers) == (unit.terms, unit.numbers)
            assert again.weight_bytes == unit.weight_bytes
        assert len({unit.key for unit in self.units()}) == len(self.units())

    def test_many_are_counted_at_once(self) -> None:
        """A unit whose numbers are arrays says what each of its units says."""
        units = self.units()
        for indices, together in alike(units):
            for place, one in enumerate(units[index] for index in indices):
                for own, columns in ((one.terms, together.terms), (one.numbers, together.numbers)):
                    assert columns.keys() == own.keys()
                    values = [np.broadcast_to(v, len(indices))[place] for v in columns.values()]
                    assert np.allclose(values, list(own.values()), rtol=1e-12)

    def test_graphs_hold_the_weights_that_are_counted(self) -> None:
        """Bytes of the exported constants are those of the unit and of what its mixer adds.

        Layers have the names of their modules, by which they are found for a precision.
        """
        if not find_spec("onnxruntime"):
            return
        mixers = [unit for unit in self.units() if unit.block.kind == "mixer"]
        for unit in few_with_each(mixers, lambda u: {u.block.norm, *traits(u.block.place.block)}):
            module, shape = build(unit.block)
            model = to_onnx(module, shape)
            assert all(layer.module for layer in OnnxGraph(model).layers())
            tensors = map(numpy_helper.to_array, model.graph.initializer)
            stored = sum(t.nbytes for t in tensors if t.dtype == np.float32 and t.size > 1)
            mixer = unit.block.mixer
            assert stored == unit.weight_bytes + (
                4 * mixer.constants(unit.block.place) if mixer else 0
            )

    def test_the_runtime_gives_the_logits(self) -> None:
        """ONNX Runtime computes what the network does."""
        if not find_spec("onnxruntime"):
            return
        runtime = open_runtime(Device.load("cpu-1t"))
        for candidate in self.telling():
            network = self.supernet().extract(candidate)
            x = images(candidate.architecture, 1)
            logits = runtime.compile(to_onnx(network, tuple(x.shape))).run(x.numpy())
            with torch.no_grad():
                assert np.abs(logits - network(x).numpy()).max() <= self.tolerance

    @classmethod
    @cache
    def units(cls) -> list[Unit]:
        """Different pieces of work in the candidates, in float32, those of the mixer first."""
        blocks = {block: 0 for c in cls.candidates() for block in workload(c).sub_blocks}
        found = dict.fromkeys(unit_of(block, "float") for block in blocks)
        return sorted(found, key=lambda unit: unit.block.kind != "mixer")
