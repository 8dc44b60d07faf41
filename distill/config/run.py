"""A whole run as a frozen value: one that was made is complete and free of contradictions. Short: its tables have files of their own.

What needs the data to be judged (does this source give labels?) is judged by the trainer when it opens the sources, before the first step.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from distill.config.data import Data
from distill.config.stage import AnyStage
from distill.config.student import Student
from distill.storage.frozen import Frozen, Several


class Run(Frozen):
    """A whole run: seed, student, data, and the stages that train that one student one after the other."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    student: Student = Student()
    data: Data = Data()
    stage: Annotated[tuple[AnyStage, ...], Several, Field(min_length=1)]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for number, stage in enumerate(self.stage, 1):
            source = stage.source
            if source in ("shards", "images") and getattr(self.data, source) is None:
                raise ValueError(f'stage {number} has source "{source}", but [data] names no {source}; add {source} = PATH')
            if source != "shards" and self.data.size is None and self.data.shards is None:
                raise ValueError(f'stage {number} has source "{source}", which needs size = [HEIGHT, WIDTH] in [data]')
        if self.data.teacher is not None and self.data.shards is None:
            raise ValueError("[data] has a teacher, which answers golden rows of shards, but names no shards; add shards = PATH or leave teacher out")
        return self
