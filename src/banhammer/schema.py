"""What a file may hold: names and shapes, for pydantic and for editors.

The bounds of values are checked by the classes of the model. Each description also ends the mistake "...; write
DESCRIPTION".
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from banhammer.errors import did_you_mean
from banhammer.model import MAX_COST, MAX_THRESHOLDS, Mode, OnError, WorkerPlace
from banhammer.toml_lines import Path
from banhammer.urls import kind, shown

_SPAN: Final = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {
            "type": "string",
            "pattern": r"^\s*([0-9.]+|([0-9]+(\.[0-9]+)?([wdhmsWDHMS]|[mMuU][sS]))+|[Ff]orever)\s*$",
        },
    ]
}
_GLOBS: Final = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
_CODE: Final = {
    "anyOf": [
        {"type": "integer", "minimum": 100, "maximum": 599},
        {"type": "string", "pattern": "^[1-5]([0-9][0-9]|[xX][xX])$"},
    ]
}
_Span = Annotated[Any, WithJsonSchema(_SPAN)]
_Rungs = Annotated[Any, WithJsonSchema({"anyOf": [*_SPAN["anyOf"], {"type": "array", "items": _SPAN, "minItems": 1}]})]
_Globs = Annotated[Any, WithJsonSchema(_GLOBS)]
_Codes = Annotated[Any, WithJsonSchema({"anyOf": [*_CODE["anyOf"], {"type": "array", "items": _CODE, "minItems": 1}]})]


def _whole(least: int, most: int | None = None) -> Any:
    bounds = {"minimum": least} if most is None else {"minimum": least, "maximum": most}
    return WithJsonSchema({"type": "integer", **bounds})


_UNSET: Any = None


class Settings(BaseModel):
    """Settings of which no other name is known."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def given(self) -> dict[str, Any]:
        """Return what the file says, without the defaults."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class ThresholdSettings(Settings):
    """How much is let through, and what follows when a key goes over it."""

    model_config = ConfigDict(title="threshold", json_schema_extra={"required": ["limit", "period"]})

    limit: Annotated[Any, _whole(1)] = Field(None, description="how many units a period lets through")
    period: _Span = Field(None, description="a duration, like '10s' or '1h30m'")
    burst: Annotated[Any, _whole(0)] = Field(None, description="how many units fit at once; the limit by default")
    ban: _Rungs = Field(None, description="a duration, or a ladder like ['1h', '6h', '1d', 'forever']")
    actions: list[str] = Field([], description="a list of names, like ['block_local']")


class PolicySettings(Settings):
    """Thresholds that are decided together, mildest consequence first."""

    model_config = ConfigDict(title="policy", json_schema_extra={"required": ["thresholds"]})

    thresholds: list[ThresholdSettings] = Field(
        [],
        description="a list of tables, like [{ limit = 10, period = '1h' }]",
        json_schema_extra={"minItems": 1, "maxItems": MAX_THRESHOLDS},
    )
    track: list[_Span] = Field([], description="a list of durations, like ['1m', '10m']")
    forgive_after: _Span = Field("1d", description="how long a strike is remembered after its ban, like '30d'")
    mode: Mode = Field(_UNSET, description="'enforce' or 'shadow'")
    on_error: OnError = Field("local", description="'local', 'open' or 'closed'")
    allow: list[str] = Field([], description="a list of keys and networks, like ['10.0.0.0/8']")
    deny: list[str] = Field([], description="a list of keys and networks, like ['203.0.113.7']")


class RouteSettings(Settings):
    """Requests that are hits on a policy, or with skip on none."""

    model_config = ConfigDict(title="route")

    path: _Globs = Field("*", description="a glob or a list of globs, like '/login*'")
    excluded: _Globs = Field(None, alias="except", description="a glob or a list of globs, like '/static/*'")
    methods: _Globs = Field(None, description="a list of methods, like ['POST']")
    status: _Codes = Field(None, description="a list of codes and classes, like [401, '4xx']")
    policy: str = Field("", description="the name of a policy, in quotes")
    key: str = Field("ip", description="a selector, like 'ip', 'ip/24/48', 'user' or 'header:NAME'")
    cost: Annotated[Any, _whole(1, MAX_COST)] = Field(1, description="how many units a hit takes")
    skip: bool = Field(False, description="true or false")


class FileSettings(Settings):
    """The whole file."""

    backend: str = Field("memory://", description="the URL of a store, like 'memory://'")
    mode: Mode = Field("enforce", description="'enforce' or 'shadow'")
    allow: list[str] = Field([], description="a list of keys and networks, like ['10.0.0.0/8']")
    deny: list[str] = Field([], description="a list of keys and networks, like ['203.0.113.7']")
    deadline: _Span = Field("50ms", description="the longest wait for the store, like '50ms'")
    denial_cache: bool = Field(_UNSET, description="true or false")
    worker: WorkerPlace = Field("internal", description="'internal' or 'external'")
    actions: dict[str, dict[str, Any]] = Field({}, description="tables, like [actions.report_central]")
    policies: dict[str, PolicySettings] = Field({}, description="tables, like [policies.login]")
    routes: list[RouteSettings] = Field([], description="tables, like [[routes]]")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors."""
    schema = _without_nulls(FileSettings.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "banhammer.toml"}


def _without_nulls(schema: Any) -> Any:
    """Return the schema without the defaults that only say that a setting may be left out."""
    if isinstance(schema, list):
        return [_without_nulls(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _without_nulls(part) for name, part in schema.items() if (name, part) != ("default", None)}


def _model(path: Path) -> type[Settings]:
    """Return the settings that the last name of a path is one of."""
    if path[0] == "routes" and len(path) > 2:
        return RouteSettings
    if path[0] != "policies" or len(path) < 3:
        return FileSettings
    return ThresholdSettings if path[2] == "thresholds" and len(path) > 4 else PolicySettings


def explain(path: Path, problem: str, value: object) -> str:
    """Return what is wrong with the shape or the name of a setting, by pydantic's word for it, and what is right."""
    fields = {info.alias or name: info for name, info in _model(path).model_fields.items()}
    if problem == "extra_forbidden":
        return f"unknown setting{did_you_mean(str(path[-1]), fields) or '; known: ' + ', '.join(fields)}"
    if problem == "model_type":
        return f"{shown(value)}; write a table of settings"
    name = next((part for part in reversed(path) if part in fields), None)
    if name is None:
        return f"{shown(value)} is no name; write a text"
    remedy = str(fields[str(name)].description)
    choices = re.findall(r"'(\w+)'", remedy) if problem == "literal_error" else ()
    found = kind(value) if path == ("backend",) else shown(value)
    return f"{found}; write {remedy}{did_you_mean(str(value), choices)}"
