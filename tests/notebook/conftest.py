"""A Dask Gateway of somebody else's, for the panel."""

from tests.providers.conftest import gateway_server, start_gateway

__all__ = ["gateway_server", "start_gateway"]
