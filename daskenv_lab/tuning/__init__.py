"""From one flow run: what every other size would take and cost.

Pure functions over reports: no cluster, no network.
"""

from daskenv_lab.tuning.candidates import Candidate, Conditions, candidates
from daskenv_lab.tuning.limit import Limit
from daskenv_lab.tuning.predict import Model, Prediction, Range, predict
from daskenv_lab.tuning.record import work_of
from daskenv_lab.tuning.size import Size
from daskenv_lab.tuning.sizing import sizer
from daskenv_lab.tuning.suggest import Advice, Suggestion, advise
from daskenv_lab.tuning.work import Node, Step, Warmup, Work

__all__ = [
    "Advice",
    "Candidate",
    "Conditions",
    "Limit",
    "Model",
    "Node",
    "Prediction",
    "Range",
    "Size",
    "Step",
    "Suggestion",
    "Warmup",
    "Work",
    "advise",
    "candidates",
    "predict",
    "sizer",
    "work_of",
]
