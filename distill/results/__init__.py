"""What the verbs return: frozen values with types. Each says itself in words, as the command line prints it (`str` too), as JSON, and as a table in a notebook.

`as_dict()` is what `--json` prints. Nothing heavy is imported here: arrays are made by who made the result.
"""

from distill.results.data import ChunkResult, EmbedResult, FacesResult, Forecast, ImportResult, PlanResult, VerifyResult, ViewsResult
from distill.results.models import CompareResult, EvaluateResult, ExportResult, Judged, Verdict
from distill.results.result import Result
from distill.results.training import TrainResult

__all__ = [
    "ChunkResult",
    "CompareResult",
    "EmbedResult",
    "EvaluateResult",
    "ExportResult",
    "FacesResult",
    "Forecast",
    "ImportResult",
    "Judged",
    "PlanResult",
    "Result",
    "TrainResult",
    "Verdict",
    "VerifyResult",
    "ViewsResult",
]
