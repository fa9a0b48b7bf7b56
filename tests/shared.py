"""What many tests need; what takes long is made by one of their processes, or made shorter."""

import math
import os
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from vitpareto.spaces import Candidate, Policy
from vitpareto.spaces.space import PRESETS

# Presets at the size of ImageNet that keep all laws of presets in slow tests; see test_families.
FAMILIES = (
    *("efficientformer", "efficientformer_v2", "lightvit", "litevit", "mixer"),
    *("mobilenet_hybrid", "mobilevit", "poolformer", "swin", "tinyvit"),
)
# Kinds of sub-blocks that runtimes other than ONNX Runtime are tried with by default; of each mixer
# the laws are kept in ONNX Runtime, and what it is in the others is looked at by slow tests.
STAND_INS = ("stem patch", "softmax", "mbconv", "mlp", "head")
BROWSER, NODE = "browser", "node"  # devices
WEB = {"onnxruntime-web": BROWSER, "litert-web": "browser-litert"}  # of runtimes of the web
MODULES = {
    "litert": "ai_edge_litert",
    "mnn": "MNN",
    "coreml": "coremltools",
    "qnn": "onnxruntime_qnn",
}  # of runtimes whose module is called otherwise


def slow_but(kept: Container[Any], names: Iterable[Any]) -> list[Any]:
    """All names or numbers, those that are not kept for the default tests marked as slow."""
    return [n if n in kept else pytest.param(n, marks=pytest.mark.slow) for n in names]


def presets() -> list[Any]:
    """Names of all presets of spaces, those of families marked as slow."""
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    return slow_but({*names} - {*FAMILIES}, names)


def slim_poolformer(version: int = 1, **settings: Any) -> Any:
    """timm's PoolFormer, whose own functions make no slim ones, with few channels."""
    from timm.models.metaformer import GroupNorm1, GroupNorm1NoBias, MetaFormer
    from torch import nn

    parts = {"depths": (1, 2, 1), "dims": (8, 12, 16), "use_mlp_head": False}
    if version == 1:
        parts |= {"norm_layers": GroupNorm1, "downsample_norm": None, "mlp_act": nn.GELU}
        parts |= {"mlp_bias": True, "res_scale_init_values": None, "layer_scale_init_values": 0.1}
    else:
        parts |= {"norm_layers": GroupNorm1NoBias, "res_scale_init_values": (None, 0.7, 1.3)}
    model = MetaFormer(**parts | settings)
    for name, value in model.named_parameters():
        if name.endswith(("norm.weight", "norm1.weight", "act.scale", "act.bias")):
            value.data.uniform_(0.5, 1.5)
    model.default_cfg = {"input_size": (settings.get("in_chans", 3), 32, 32)}
    return model


def slim_efficientformer(**settings: Any) -> Any:
    """timm's EfficientFormer with few channels, whose attention is bound to a grid of 7x7."""
    import timm

    small = {"embed_dims": (16, 16, 24, 32), "depths": (1, 1, 1, 2)} | settings
    return lively(timm.create_model("efficientformer_l1", **small))


def slim_levit(name: str = "levit_128", **settings: Any) -> Any:
    """timm's LeViT with few channels on grids of 7x7, 4x4 and 2x2."""
    import timm

    small = {"img_size": 56, "stem_type": "s8", "embed_dim": (32, 40, 48), "key_dim": 8}
    small |= {"depth": (1, 2, 1), "num_heads": (2, 3, 4)} | settings
    return lively(timm.create_model(name, **small))


def lively(model: Any) -> Any:
    """The model with scales, biases of positions and statistics that are not as it is made."""
    import torch
    from torch import nn

    with torch.no_grad():
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            if name.endswith(("gamma", "attention_biases", "running_var")):
                value.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                value.normal_(0, 0.1)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
    return model


def slim_efficientvit(**settings: Any) -> Any:
    """timm's EfficientViT of MIT with few channels and blocks, for images of 64 pixels."""
    import timm

    small: dict[str, Any] = {"widths": (8, 8, 16, 16, 24), "depths": (1, 2, 1, 1, 2)}
    small |= {"head_dim": 8, "head_widths": (24, 40)}
    model = lively(timm.create_model("efficientvit_b0", **small | settings))
    model.default_cfg = {"input_size": (model.in_chans, 64, 64)}
    return model


def slim_efficientvit_msra(**settings: Any) -> Any:
    """timm's EfficientViT of MSRA with few blocks, whose grids are of 7, 4 and 2 tokens a side."""
    import timm

    small: dict[str, Any] = {"embed_dim": (64, 72, 80), "depth": (1, 1, 1), "num_heads": (4, 3, 2)}
    small |= {"key_dim": (4, 8, 4), "kernels": (3,) * 4, "img_size": 112}
    return lively(timm.create_model("efficientvit_m0", **small | settings))


def slim_mobilevit(stem: int = 8, version: int = 1, **settings: Any) -> Any:
    """timm's MobileViT with few channels and stages, for small images."""
    from timm.models.byobnet import ByobNet, ByoModelCfg
    from timm.models.mobilevit import (
        _inverted_residual_block,
        _mobilevit_block,
        _mobilevitv2_block,
    )

    block = _mobilevit_block(1, 16, 2, transformer_dim=24, transformer_depth=2, patch_size=2)
    if version == 2:
        block = _mobilevitv2_block(1, 16, 2, transformer_depth=2)
    config = ByoModelCfg(
        blocks=(_inverted_residual_block(2, 8, 1), _inverted_residual_block(2, 12, 2), block),
        stem_chs=stem,
        stem_type="3x3",
        stem_pool="",
        downsample="",
        act_layer="silu",
        num_features=32 if version == 1 else 0,
    )
    model = ByobNet(config, **settings)
    model.default_cfg = {"input_size": (settings.get("in_chans", 3), 32, 32)}
    return model


def everywhere(candidate: Candidate, policy: Policy) -> Candidate:
    """The candidate with one policy for all its sub-blocks."""
    from vitpareto.search.delivery.decompression import policies, with_policy

    for place in policies(candidate):
        candidate = with_policy(candidate, place, policy)
    return candidate


def needs_runtime(name: str) -> None:
    """Skip the test where a runtime is not installed."""
    if name in WEB:
        needs_device(WEB[name])
    else:
        pytest.importorskip(MODULES.get(name, name))


def needs_device(name: str) -> None:
    """Skip the test where a device that is more than a package cannot be used."""
    from vitpareto.cost_models import Device
    from vitpareto.cost_models.runtimes import available

    if missing := available(Device.load(name)):
        pytest.skip(missing)


@contextmanager
def few_rounds() -> Iterator[pytest.MonkeyPatch]:
    """Graphs and steps of a run are timed in few rounds, and once even on a restless machine.

    Graphs are timed in this process: how the worker does it in one of its own, and how steady that
    is, `tests/cost_models` looks at. Small spaces show all that they have in fewer candidates.
    """
    from vitpareto.cost_models.calibration import bundle, calibrate
    from vitpareto.cost_models.measure import bench
    from vitpareto.cost_models.measure.worker import compile_file
    from vitpareto.cost_models.runtimes.scratch import scratch
    from vitpareto.cost_models.standalone import timing
    from vitpareto.cost_models.standalone.runner import time_folder
    from vitpareto.cost_models.standalone.timing import IN_TURN
    from vitpareto.cost_models.tables.latency_table import Row
    from vitpareto.search.run import timing as steps

    whole = bench.Bench.time

    def time(
        self: bench.Bench, graphs: Sequence[bench.TimedGraph], rounds: int = 3, way: str = IN_TURN
    ) -> list[Row]:
        return whole(self, graphs, min(rounds, 3), way)

    def here(
        self: bench.Bench, graphs: Sequence[bench.TimedGraph], rounds: int, way: str
    ) -> dict[str, Any]:
        with scratch() as folder:
            bench.write_plan(folder, self.device, graphs, rounds, self.seed, [way])
            self._runtime.renew()
            return time_folder(folder, compile_file, way)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.Bench, "time", time)
        patch.setattr(bench.Bench, "_outside", here)
        patch.setattr(bench, "NETWORK_HEAT_MS", bench.HEAT_MS)
        for name, less in {"ALONE_MS": 15.0, "FEWEST_RUNS": 12, "LOOP_MS": 1.0}.items():
            patch.setattr(timing, name, less)
        for name, less in {"MOST_S": 0.1, "LIMIT_S": 0.2, "PART_S": 0.2}.items():
            patch.setattr(steps, name, less)
        for module in (bench, calibrate):
            patch.setattr(module, "UNREST", math.inf)
        for module in (bundle, calibrate):
            patch.setattr(module, "SURVEY", 300)
        patch.setattr(bundle, "ROUNDS", 3)
        patch.setattr(calibrate, "SET_FOOTPRINTS", 2)
        yield patch


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process to ask for it fills, while the others wait.

    All read it, so what is to be changed is copied first.
    """
    session = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each has a folder of its own in that of the session
        session = session.parent
    folder, done = session / name, session / f"{name}.done"
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a failure left
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
