"""Code follows the notebook: the user's own modules reach the workers as they are on disk now."""

from daskenv_lab.flows.sync.declared import declare, declared, withdraw
from daskenv_lab.flows.sync.onworker import Code, current_code
from daskenv_lab.flows.sync.ship import Shipped, gather, send, ship, travelling

__all__ = [
    "Code",
    "Shipped",
    "current_code",
    "declare",
    "declared",
    "gather",
    "send",
    "ship",
    "travelling",
    "withdraw",
]
