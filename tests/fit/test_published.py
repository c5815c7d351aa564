"""Published tables, fitted anew: the short part of `make check-fit`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import check_fit


@pytest.mark.data
@pytest.mark.parametrize(
    "part", ["joint", "published", "retrieval", "sparsity", "extrapolation"]
)
def test_every_published_row_holds(part: str, shared_data: Path) -> None:
    rows = list(getattr(check_fit, part)(shared_data / "scaling"))
    assert rows
    assert [row.line() for row in rows if not row.holds] == []


@pytest.mark.data
@pytest.mark.slow
def test_the_published_bootstrap_holds(shared_data: Path) -> None:
    rows = list(check_fit.resampled(shared_data / "scaling"))
    assert [row.line() for row in rows if not row.holds] == []


def test_five_outliers_of_240_do_not_move_alpha() -> None:
    (row,) = check_fit.outliers()
    assert row.holds, row.line()
