"""Data-parallel training: two processes come to what one does with the doubled batch."""

import logging

import pytest

from vitpareto.search.config import SupernetConfig
from vitpareto.search.training.loss_curves import Health
from vitpareto.search.training.supernet import train_supernet

pytest.importorskip("ray.train", exc_type=ImportError, reason="needs ray[train]")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")  # of Ray's own workers
def test_two_workers_have_the_loss_curve_of_the_doubled_batch(space, lessons) -> None:
    import ray

    from vitpareto.search.training.ray_train import train_in_parallel

    recipe = SupernetConfig(epochs=5, batch_size=64, lr=2e-3)
    whole = Health()
    doubled = recipe.model_copy(update={"batch_size": 128})
    train_supernet(space, lessons, doubled, 0, health=whole)
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level=logging.ERROR)
    try:
        _, shared = train_in_parallel(space, lessons, recipe, 0, workers=2)
    finally:
        ray.shutdown()
    assert shared.curves.keys() == whole.curves.keys()
    for name, curve in whole.curves.items():
        assert len(curve) == 4
        # bfloat16 rounds parts of a batch differently from the whole.
        assert shared.curves[name] == pytest.approx(curve, rel=5e-3)
