"""Finds and reads the files of a registry: every file into its model, every mistake in its form into a problem.

What the files mean together is the business of ``loading``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from contracts.description import (
    FILE_KINDS,
    AssetsFile,
    ContractDescription,
    CustodyDescription,
    DeploymentFile,
)
from contracts.problems import Problem, RegistryError, suggestion
from contracts.yaml_source import YamlSource, read_yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A parsed file with its positions."""

    source: YamlSource
    content: ContractDescription | CustodyDescription | AssetsFile | DeploymentFile

    def problem(self, path: Sequence[str | int], what: str, do: str) -> Problem:
        return Problem(file=self.source.file, line=self.source.line(path), field=field_name(path), what=what, do=do)


@dataclass(slots=True)
class Loaded:
    """All files of a registry, sorted by kind, and the problems so far."""

    chain_id: int
    contracts: dict[str, tuple[File, ContractDescription]] = field(default_factory=dict)
    custodies: dict[str, tuple[File, CustodyDescription]] = field(default_factory=dict)
    assets: list[tuple[File, AssetsFile]] = field(default_factory=list)
    deployments: list[tuple[File, DeploymentFile]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def finish(self) -> None:
        if self.problems:
            raise RegistryError(self.problems)


def field_name(path: Sequence[str | int]) -> str:
    """``("events", "Deposited", "postings", 0, "amount")`` is ``Deposited.postings[0].amount``."""
    parts = path[1:] if len(path) > 1 and path[0] == "events" else path
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) and text else f".{part}" if text else str(part)
    return text


def read_files(paths: Sequence[Path], *, chain_id: int) -> Loaded:
    """All files of these paths (files, or folders of them). Raises RegistryError with every problem of their form."""
    loaded = Loaded(chain_id=chain_id)
    for path in paths:
        for file in _files(path, loaded):
            _read(file, loaded)
    loaded.finish()
    return loaded


def _files(path: Path, loaded: Loaded) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
        if not files:
            loaded.problems.append(_whole(path, "has no .yaml file", "name the folder that holds the descriptions"))
        return files
    return [path]


def _whole(path: Path, what: str, do: str) -> Problem:
    return Problem(file=str(path), line=0, field="", what=what, do=do)


def _read(path: Path, loaded: Loaded) -> None:
    try:
        source = read_yaml(path)
    except RegistryError as exc:
        loaded.problems += exc.problems
        return
    kind = source.value.get("kind") if isinstance(source.value, dict) else None
    model = FILE_KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        problem = Problem(
            file=source.file,
            line=source.line(("kind",)),
            field="kind",
            what="is missing" if kind is None else f"is {kind!r}",
            do=f"use one of: {', '.join(FILE_KINDS)}",
        )
        loaded.problems.append(problem)
        return
    try:
        content = model.model_validate(source.value)
    except ValidationError as exc:
        loaded.problems += [_structure_problem(source, model, error) for error in exc.errors()]
        return
    _add(File(source=source, content=content), loaded)


def _add(file: File, loaded: Loaded) -> None:
    match file.content:
        case ContractDescription() | CustodyDescription() as description:
            earlier = loaded.contracts.get(description.contract) or loaded.custodies.get(description.contract)
            if earlier is not None:
                what = f"{description.contract!r} is also described in {earlier[0].source.file}"
                loaded.problems.append(file.problem(("contract",), what, "give each description its own name"))
            elif isinstance(description, ContractDescription):
                loaded.contracts[description.contract] = (file, description)
            else:
                loaded.custodies[description.contract] = (file, description)
        case AssetsFile() as assets:
            loaded.assets.append((file, assets))
        case DeploymentFile() as deployment:
            if deployment.chain == loaded.chain_id:
                loaded.deployments.append((file, deployment))


def _structure_problem(source: YamlSource, model: type[BaseModel], error: Mapping[str, Any]) -> Problem:
    path = tuple(error["loc"])
    kind, name = error["type"], str(path[-1]) if path else ""
    what, do = f"{error['msg']}", "correct it"
    if kind == "missing":
        what, do = "is missing", "add it"
    elif kind == "extra_forbidden":
        what, do = "is not a known field", suggestion(name, _field_names(model))
    elif kind == "value_error":
        what, _, rest = str(error["ctx"]["error"]).partition("; ")
        do = rest or do
    else:
        what = f"{what} (it is {error['input']!r:.60})"
    return Problem(file=source.file, line=source.line(path), field=field_name(path), what=what, do=do)


def _field_names(model: type[BaseModel]) -> set[str]:
    schema = model.model_json_schema(by_alias=True)
    names = set(schema.get("properties", {}))
    for definition in schema.get("$defs", {}).values():
        names |= set(definition.get("properties", {}))
    return names
