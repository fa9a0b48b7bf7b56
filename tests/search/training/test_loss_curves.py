"""Health: curves are kept, alarms are raised once and only for a reason."""

import logging

import pytest

from vitpareto.search.training.loss_curves import LARGEST, SMALLEST, Health


def test_a_healthy_training_raises_no_alarm() -> None:
    health = Health()
    for step in range(1, 400):
        health.observe(step, {LARGEST: 2 / step**0.5, SMALLEST: 2.5 / step**0.5})
    assert not health.alarms
    assert len(health.curves[LARGEST]) == len(health.curves[SMALLEST]) == 39
    assert health.curves[LARGEST] == sorted(health.curves[LARGEST], reverse=True)


def test_a_smaller_network_that_beats_the_largest(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    with caplog.at_level(logging.WARNING, "vitpareto"):
        for step in range(1, 400):
            health.observe(step, {LARGEST: 1.0, SMALLEST: 0.5})
    assert len(health.alarms) == 1 and "large ones starve" in health.alarms[0]
    assert health.alarms[0] in caplog.text


def test_a_loss_that_rises() -> None:
    health = Health()
    for step in range(1, 200):
        health.observe(step, {LARGEST: 0.5 if step < 100 else 2.0, SMALLEST: 3.0})
    assert len(health.alarms) == 1 and "largest network rose from 0.500" in health.alarms[0]


def test_noise_is_no_alarm() -> None:
    health = Health()
    for step in range(1, 400):
        health.observe(step, {LARGEST: 1.0 + 0.5 * (step % 2), SMALLEST: 1.3})
    assert not health.alarms


def test_it_goes_on_from_its_notes() -> None:
    losses = [{LARGEST: 1 / s, SMALLEST: 0.1 + 0.3 * (s % 7)} for s in range(1, 200)]
    whole, first = Health(), Health()
    for step, loss in enumerate(losses, 1):
        whole.observe(step, loss)
        if step <= 77:
            first.observe(step, loss)
    second = Health()
    second.restore(first.notes())
    for step, loss in enumerate(losses[77:], 78):
        second.observe(step, loss)
    assert second.notes() == whole.notes()
