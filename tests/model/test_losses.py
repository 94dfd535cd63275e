"""Losses against their formulas, and the property they were chosen for."""

import math

import pytest
import torch

from bifocus.model.losses import (
    compute_charbonnier,
    compute_log_mse,
    compute_mse,
    make_loss,
)


def test_log_mse_is_the_mean_over_samples_of_the_logarithm() -> None:
    truth = torch.zeros(2, 3, 4, 4)
    fused = torch.zeros(2, 3, 4, 4)
    fused[0], fused[1] = 0.1, 0.01
    expected = (math.log(0.01) + math.log(0.0001 + 1 / 12 / 255**2)) / 2
    assert float(compute_log_mse(fused, truth)) == pytest.approx(expected, abs=2e-3)


def test_perfect_samples_are_finite() -> None:
    image = torch.rand(1, 3, 8, 8, requires_grad=True)
    loss = make_loss("log-mse-charbonnier")(image, image.detach())
    loss.backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(float(loss.detach()))
    assert image.grad is not None
    assert image.grad.isfinite().all()


def test_charbonnier_is_nearly_l1_far_from_zero() -> None:
    fused = torch.full((1, 3, 4, 4), 0.3)
    assert float(compute_charbonnier(fused, torch.zeros_like(fused))) == pytest.approx(
        math.hypot(0.3, 1e-3), rel=1e-6
    )


def test_mse_is_the_papers() -> None:
    assert make_loss("mse") is compute_mse
    ones = torch.ones(1, 3, 2, 2)
    assert float(compute_mse(2 * ones, ones)) == 1.0


def test_a_near_sharp_sample_pulls_as_hard_as_a_blurred_one() -> None:
    """In MSE its share of the gradient falls with its error; in log-MSE it does not."""

    def pull(loss_name: str) -> float:
        errors = torch.tensor([0.2, 0.02]).reshape(2, 1, 1, 1).requires_grad_()
        function = {"log": compute_log_mse, "mse": compute_mse}[loss_name]
        loss = function(errors.expand(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))
        loss.backward()  # type: ignore[no-untyped-call]
        assert errors.grad is not None
        relative = errors.grad.flatten() * errors.detach().flatten()
        return float(relative[1] / relative[0])

    assert pull("log") == pytest.approx(1.0, abs=0.01)
    assert pull("mse") == pytest.approx(0.01, rel=0.01)
