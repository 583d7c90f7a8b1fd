"""Production: a fresh cluster for each flow run, and deployments whose runs have one."""

from daskenv_lab.production.deployment import Deployment, register
from daskenv_lab.production.direct import execute
from daskenv_lab.production.entrypoint import refuse_unbound
from daskenv_lab.production.runner import FlowRunExecutor

__all__ = ["Deployment", "FlowRunExecutor", "execute", "refuse_unbound", "register"]
