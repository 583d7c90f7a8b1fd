"""What the documents' examples run on."""

from tests.production.conftest import api, ended, pool, worker
from tests.providers.conftest import gateway_server, start_gateway

__all__ = ["api", "ended", "gateway_server", "pool", "start_gateway", "worker"]
