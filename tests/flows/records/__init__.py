"""What the API records of the same flows with prefect-dask and with `DaskExecutor`."""
