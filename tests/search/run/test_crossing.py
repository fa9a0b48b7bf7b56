"""One model for several devices: the one that each of them loses the least by."""

from vitpareto.search.run.crossing import Crossed, Excess, _excess, _one_for_all

Models = dict[str, dict[str, Crossed]]


def crossed(**devices: dict[str, tuple[float, float]]) -> tuple[Models, Models]:
    """Models by finalist and by device, from device -> finalist -> accuracy and latency."""
    seen: Models = {}
    for device, models in devices.items():
        near = max(accuracy for accuracy, _ in models.values()) - 0.01
        fastest = min((ms, key) for key, (accuracy, ms) in models.items() if accuracy >= near)[1]
        seen[device] = {
            key: Crossed(key, accuracy, ms, "verified", True, key == fastest)
            for key, (accuracy, ms) in models.items()
        }
    keys = {key for models in devices.values() for key in models}
    by_key = {key: {d: found[key] for d, found in seen.items() if key in found} for key in keys}
    return by_key, seen


def test_the_least_of_the_largest_losses_is_taken() -> None:
    models, seen = crossed(
        a={"x": (0.9, 1.0), "y": (0.9, 2.0), "z": (0.9, 1.3), "small": (0.5, 0.1)},
        b={"x": (0.9, 3.0), "y": (0.9, 1.0), "z": (0.9, 1.2), "small": (0.5, 0.1)},
    )
    assert _one_for_all(models, seen) == "z"
    excess = _excess(models["z"]["a"], seen["a"].values())
    assert excess == Excess(1.3 / 1.0 - 1, 0.0)


def test_accuracy_comes_first_where_no_model_has_it_everywhere() -> None:
    models, seen = crossed(
        a={"x": (0.9, 1.0), "y": (0.85, 1.0)}, b={"x": (0.8, 1.0), "y": (0.9, 5.0)}
    )
    assert _one_for_all(models, seen) == "y"  # it loses 5 points at most, and x loses 10


def test_what_was_not_delivered_for_all_is_not_taken() -> None:
    models, seen = crossed(a={"x": (0.9, 1.0)}, b={"y": (0.9, 1.0)})
    assert _one_for_all(models, seen) == ""
