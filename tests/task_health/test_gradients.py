"""Inner products in float64, whatever the gradients are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtask_sinks.task_health import gradients
from mtask_sinks.task_health.gradients import products_of


@pytest.mark.parametrize("size", [1e-25, 1.0, 1e20])
def test_sizes_whose_squares_do_not_fit_float32(size):
    rows = [[torch.full((3,), size), None], [torch.full((3,), -size), torch.full((2,), size)]]
    found = products_of(rows)
    np.testing.assert_allclose(found.gram, size**2 * np.array([[3.0, -3.0], [-3.0, 5.0]]), rtol=1e-6)
    assert found.overlaps.all()


def test_parameters_that_only_one_reaches_do_not_overlap():
    a, b = torch.ones(2), torch.ones(3)
    found = products_of([[a, None, None], [None, b, None], [None, b, a]])
    assert found.overlaps.tolist() == [[True, False, False], [False, True, True], [False, True, True]]
    assert found.gram.tolist() == [[2.0, 0.0, 0.0], [0.0, 3.0, 3.0], [0.0, 3.0, 5.0]]


def test_short_floats_sparse_and_long_gradients(monkeypatch):
    monkeypatch.setattr(gradients, "_CHUNK", 7)
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(4, 5, generator=generator).bfloat16(), torch.randn(4, 5, generator=generator)
    sparse = torch.sparse_coo_tensor([[0, 2]], torch.ones(2, 5), (4, 5))
    found = products_of([[a], [b], [sparse]])
    rows = np.stack([each.double().flatten().numpy() for each in (a, b, sparse.to_dense())])
    np.testing.assert_allclose(found.gram, rows @ rows.T, rtol=1e-12)
