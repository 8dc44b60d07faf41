"""What report returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from distill.results.result import Result
from distill.runtime.lines import many


@dataclass(frozen=True, repr=False)
class ReportResult(Result):
    """A page that was written. path: the file; runs: what it shows; verdicts: what each of them is worth against its teacher, in a sentence; bytes: its size."""

    SHOWN: ClassVar[tuple[str, ...]] = ("path", "runs", "verdicts", "bytes")
    path: Path
    runs: tuple[str, ...]
    verdicts: tuple[str, ...]
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path), "runs": list(self.runs), "verdicts": list(self.verdicts)}

    def in_words(self) -> str:
        told = [f"{run}: {verdict}" for run, verdict in zip(self.runs, self.verdicts, strict=True)]
        what = "the page" if len(self.runs) == 1 else f"the page of {many(len(self.runs), 'runs')}"
        return "\n".join([*told, f"{what}: {self.path} ({self.bytes / 1e6:.1f} MB)"])
