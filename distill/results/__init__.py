"""What the verbs return: frozen typed values. Each has the text that the command line prints (also as `str`), JSON, and a table for notebooks.

`as_dict()` is what `--json` prints. Nothing heavy is imported here: the verb makes the arrays.
"""

from distill.results.comparison import CompareResult, Verdict
from distill.results.data import ChunkResult, EmbedResult, FacesResult, Forecast, ImportResult, PlanResult, VerifyResult, ViewsResult
from distill.results.evaluation import EvaluateResult, Judged
from distill.results.export import ExportResult
from distill.results.report import ReportResult
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
    "ReportResult",
    "Result",
    "TrainResult",
    "Verdict",
    "VerifyResult",
    "ViewsResult",
]
