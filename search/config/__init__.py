"""The YAML file of a run: its sections, and how it is read."""

from .reading import PRESETS, load_config
from .run import AUTO, CUT_EXAMPLES, RunConfig
from .sections import (
    FEWEST_EXAMPLES,
    Balance,
    DataConfig,
    DeviceConfig,
    ExecutorConfig,
    ExportConfig,
    ForecastConfig,
    SearchConfig,
    StartConfig,
)
from .trainings import (
    AdaptConfig,
    DistillConfig,
    FinishConfig,
    ProxyConfig,
    SupernetConfig,
    TeacherConfig,
    TrainConfig,
)

__all__ = [
    "AUTO",
    "CUT_EXAMPLES",
    "FEWEST_EXAMPLES",
    "PRESETS",
    "AdaptConfig",
    "Balance",
    "DataConfig",
    "DeviceConfig",
    "DistillConfig",
    "ExecutorConfig",
    "ExportConfig",
    "FinishConfig",
    "ForecastConfig",
    "ProxyConfig",
    "RunConfig",
    "SearchConfig",
    "StartConfig",
    "SupernetConfig",
    "TeacherConfig",
    "TrainConfig",
    "load_config",
]
