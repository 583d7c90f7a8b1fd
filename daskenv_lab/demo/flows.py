"""The two flows of the demonstration: the source document's, and one over a few hundred MB."""

from __future__ import annotations

import tempfile
from pathlib import Path

import dask.dataframe
import numpy as np
import pandas as pd
from distributed import worker_client
from prefect import flow, task

ROWS = 1_000_000
"""Rows of each Parquet file: 24 bytes a row, of which hardly any can be compressed."""


@task
def times_two(x: int) -> int:
    """Double a number."""
    return x * 2


@task
def get_sum(numbers: list[int]) -> int:
    """Add numbers up."""
    return sum(numbers)


@flow
def add_up(x: list[int] = [1, 2, 3]) -> int:  # noqa: B006 - a flow's default is never changed
    """Double each number and add the results up.

    Source: the example of Prefect 0.x's Dask Cloud Provider Environment,
    https://docs.prefect.io/orchestration/execution/dask_cloud_provider_environment
    """
    # Prefect puts results in the place of futures among the arguments; its types do not say so.
    return get_sum.submit(times_two.map(x)).result()  # type: ignore[arg-type]


@task
def write_measurements(folder: str, part: int, rows: int) -> int:
    """Write one Parquet file of made-up measurements, and give its size in bytes."""
    random = np.random.default_rng(part)
    path = Path(folder) / f"part-{part:03}.parquet"
    pd.DataFrame(
        {
            "station": random.integers(0, 100, rows),
            "temperature": random.normal(12.0, 8.0, rows),
            "wind": random.gamma(2.0, 3.0, rows),
        }
    ).to_parquet(path)
    return path.stat().st_size


@task
def mean_by_station(folder: str, sizes: list[int]) -> dict[str, float]:
    """Aggregate all files with dask.dataframe, on the whole cluster, from inside a task."""
    with worker_client():
        means = dask.dataframe.read_parquet(folder).groupby("station").mean().compute()
    return {
        "megabytes": round(sum(sizes) / 1e6, 1),
        "stations": float(len(means)),
        "temperature": round(float(means.temperature.mean()), 2),
        "wind": round(float(means.wind.mean()), 2),
    }


@flow
def measurements(parts: int = 15, rows: int = ROWS) -> dict[str, float]:
    """Generate Parquet files on the workers, and aggregate them there."""
    with tempfile.TemporaryDirectory(prefix="daskenv-demo-") as folder:
        sizes = write_measurements.map(folder, range(parts), rows)
        return mean_by_station.submit(folder, sizes).result()  # type: ignore[arg-type]
