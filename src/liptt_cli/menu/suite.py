"""A suite of evaluations, as `configs/suites/*.yaml` spell it: sections of harness tasks, or of what is measured."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from liptt_cli.menu.base import Options

Measure = Literal[
    "file_bytes",
    "bits_per_weight",
    "peak_bytes",
    "bytes_read_per_token",
    "decode_tokens_per_second",
    "prefill_tokens_per_second",
]


class SuiteTask(Options):
    """One task or group of the harness, and the number of it that counts."""

    task: Annotated[
        str, Field(min_length=1, description="a name, a YAML file, or FOLDER/NAME, beside the suite's file")
    ]
    metric: Annotated[str, Field(min_length=1, description="as the harness calls it, with a filter: exact_match,x")] = (
        "acc"
    )
    shots: Annotated[int | None, Field(ge=0, description="examples before a question; null: as the task says")] = None


class SuiteSection(Options):
    """Tasks whose mean means something, or numbers of size, memory and speed."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", description="the target of a gate: NAME.mean")]
    title: str
    tasks: Annotated[list[SuiteTask], Field(description="those with data on the hub")] = []
    offline: Annotated[list[SuiteTask], Field(description="those of a folder of task files, by their names")] = []
    measures: list[Measure] = []

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if bool(self.tasks or self.offline) == bool(self.measures):
            raise ValueError("a section has either `tasks` (and `offline`), or `measures`")
        return self


class Suite(Options):
    """What a compressed model is judged by under one heading."""

    suite: Annotated[str, Field(min_length=1, description="its name")]
    title: str
    sections: Annotated[list[SuiteSection], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [section.name for section in self.sections]
        if len(set(names)) < len(names):
            raise ValueError("two sections have the same name")
        return self
