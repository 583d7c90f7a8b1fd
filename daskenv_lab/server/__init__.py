"""A Jupyter Server extension: dashboards of this user's clusters, and verbs without a kernel.

It is enabled by installing the package. What stands here is read whenever a Jupyter Server
starts, and imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Tell Jupyter Server where the extension is."""
    return [{"module": "daskenv_lab.server"}]


def _load_jupyter_server_extension(server_app: ServerApp) -> None:
    """Add the extension's addresses to a server that starts."""
    from daskenv_lab.server.routes import routes

    web_app: Any = server_app.web_app
    web_app.add_handlers(".*$", routes(web_app.settings["base_url"]))
    server_app.log.info("daskenv_lab: dashboards of Dask clusters are served below daskenv/")
