"""Devices: those that a run file names, and the cost models that come with them."""

from __future__ import annotations

from pathlib import Path

from ...cost_models import CostModel, Device
from ...cost_models.predict.model_file import is_model_file
from ...spaces.errors import ConfigError, did_you_mean
from ..config import DeviceConfig, load_config
from ..store.run_folder import RunFolder


def load_device(config: DeviceConfig, kept: Path | None = None) -> Device:
    """The device of a file or a preset; or the one that a cost model is of, if it names that.

    Args:
        config: names it.
        kept: cost model of the device in a run folder, which stands for one that is gone.

    Raises:
        ConfigError: no such device, or one with a setting that is not known here.
        CostError: the cost model cannot be read.
    """
    named = Path(config.name)
    if kept and kept.exists() and named.suffix == ".json" and not named.exists():
        named = kept
    if not is_model_file(named):
        return Device.load(config.name)
    model = CostModel.load(named)
    try:
        return Device.of_identity(model.identity, config.label, model.recipes.values())
    except ConfigError as error:
        raise ConfigError(f"{config.name}: {error}") from None


def given_model(config: DeviceConfig) -> Path | None:
    """File of the cost model that comes with a device, if one does."""
    named = config.name if is_model_file(config.name) else None
    given = config.cost_model or named
    return Path(given) if given else None


def of_device(folder: RunFolder, device: str | None) -> RunFolder:
    """A run folder as the device that a person means has it.

    Args:
        folder: of a run.
        device: its name, which a run for one need not be told.

    Raises:
        ConfigError: the run is for several devices and none is named, or it is for no such one.
    """
    known = [device.label for device in load_config(folder.config).devices]
    if device is None and len(known) > 1:
        raise ConfigError(f"{folder.path}: which device? Name it: --device {' or '.join(known)}")
    if device is not None and device not in known:
        raise ConfigError(
            f"--device: {folder.path} is for no such device {device!r}. "
            f"{did_you_mean(device, known)}"
        )
    return folder.of(device or "") if len(known) > 1 else folder
