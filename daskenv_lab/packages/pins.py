"""What an image must hold for the flows of a session, with the versions that are here."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import TYPE_CHECKING

from daskenv_lab.export import Image
from daskenv_lab.packages.compare import imported, lacking, needs_of
from daskenv_lab.packages.here import needed_everywhere, why_not_on_an_index

if TYPE_CHECKING:
    from daskenv_lab.providers.connection import Connection


def image_for(connection: Connection) -> Image:
    """Give the packages of an image for the flows that ran or were compared on a cluster.

    Besides, there is what each worker needs: dask, distributed, prefect and cloudpickle.

    Examples
    --------
    >>> image_for(session.connection).pins  # doctest: +SKIP
    {'cloudpickle': '3.1.2', 'dask': '2026.8.0', 'distributed': '2026.8.0', 'prefect': '3.8.8'}
    """
    needs = needs_of(imported(connection))
    found = {n.distribution: n.version or "" for n in needs if n.distribution}
    always = {name: importlib.metadata.version(name) for name in needed_everywhere()}
    pins = {**lacking(connection), **found, **always}
    doubts = {name: why for name in pins if (why := why_not_on_an_index(name))}
    unknown = {n.module: "no package is known to bring it" for n in needs if not n.distribution}
    return Image(
        pins={name: version for name, version in pins.items() if name not in unknown},
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        doubts={**doubts, **unknown},
    )
