"""The relay: the Prefect API for workers that have no way to it, or no right to its key.

A worker's calls go to a forwarder on its own loopback (`onworker`), over Dask's connections to
the scheduler (`onscheduler`), and from there to the client that runs the flow (`answering`),
which alone speaks to the API. `route` decides whether that is needed.
"""
