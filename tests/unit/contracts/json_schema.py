"""A checker for the part of JSON Schema that our schemas use, so that tests need no further dependency.

It refuses a schema with a word that it does not know: an unchecked constraint would make the tests lie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SILENT = {"$schema", "$id", "$defs", "title", "description", "default", "examples", "discriminator"}
_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None)}


class SchemaChecker:
    """Schemas by ``$id``; ``problems`` says where a value differs from one."""

    def __init__(self, schemas: list[Mapping[str, Any]]) -> None:
        self._by_id = {schema["$id"]: schema for schema in schemas}

    def problems(self, schema_id: str, value: Any) -> list[str]:
        root = self._by_id[schema_id]
        return self._check(root, value, root, "$")

    def _check(self, schema: Mapping[str, Any], value: Any, root: Mapping[str, Any], path: str) -> list[str]:
        found: list[str] = []
        for word, expected in schema.items():
            if word not in _SILENT:
                found += self._word(word, expected, schema, value, root, path)
        return found

    def _word(
        self, word: str, expected: Any, schema: Mapping[str, Any], value: Any, root: Mapping[str, Any], path: str
    ) -> list[str]:
        fine = True
        match word:
            case "$ref":
                return self._reference(expected, value, root, path)
            case "allOf":
                return [problem for part in expected for problem in self._check(part, value, root, path)]
            case "anyOf" | "oneOf":
                fine = any(not self._check(part, value, root, path) for part in expected)
            case "type":
                kinds = expected if isinstance(expected, list) else [expected]
                fine = any(
                    isinstance(value, _TYPES[kind]) and (kind == "boolean") == isinstance(value, bool) for kind in kinds
                )
            case "const":
                fine = value == expected
            case "enum":
                fine = value in expected
            case "pattern":
                fine = not isinstance(value, str) or re.search(expected, value) is not None
            case "minimum" | "maximum":
                fine = not isinstance(value, int) or (value >= expected if word == "minimum" else value <= expected)
            case "minItems" | "maxItems":
                fine = not isinstance(value, list) or (
                    len(value) >= expected if word == "minItems" else len(value) <= expected
                )
            case "minLength" | "maxLength":
                fine = not isinstance(value, str) or (
                    len(value) >= expected if word == "minLength" else len(value) <= expected
                )
            case "exclusiveMaximum":
                fine = not isinstance(value, int) or value < expected
            case "required":
                fine = not isinstance(value, dict) or all(name in value for name in expected)
            case "items" if isinstance(value, list):
                return [p for i, item in enumerate(value) for p in self._check(expected, item, root, f"{path}[{i}]")]
            case "properties" if isinstance(value, dict):
                return [
                    p
                    for k, part in expected.items()
                    if k in value
                    for p in self._check(part, value[k], root, f"{path}.{k}")
                ]
            case "additionalProperties" if isinstance(value, dict):
                return self._additional(expected, schema, value, root, path)
            case "patternProperties" if isinstance(value, dict):
                pairs = [(form, part, k) for form, part in expected.items() for k in value if re.search(form, str(k))]
                return [p for _, part, k in pairs for p in self._check(part, value[k], root, f"{path}.{k}")]
            case "propertyNames" if isinstance(value, dict):
                return [p for key in value for p in self._check(expected, str(key), root, f"{path} key {key}")]
            case "items" | "properties" | "patternProperties" | "additionalProperties" | "propertyNames":
                fine = True
            case _:
                raise AssertionError(f"the checker does not know {word!r}")
        return [] if fine else [f"{path}: {word} {expected!r:.80} is not met by {value!r:.80}"]

    def _reference(self, reference: str, value: Any, root: Mapping[str, Any], path: str) -> list[str]:
        if reference.startswith("#/$defs/"):
            return self._check(root["$defs"][reference.removeprefix("#/$defs/")], value, root, path)
        other = self._by_id[reference]
        return self._check(other, value, other, path)

    def _additional(
        self, expected: Any, schema: Mapping[str, Any], value: Mapping[str, Any], root: Mapping[str, Any], path: str
    ) -> list[str]:
        rest = [name for name in value if name not in schema.get("properties", {})]
        forms = schema.get("patternProperties", {})
        rest = [name for name in rest if not any(re.search(form, str(name)) for form in forms)]
        if expected is False:
            return [f"{path}: {name} is not allowed" for name in rest]
        if expected is True:
            return []
        return [p for name in rest for p in self._check(expected, value[name], root, f"{path}.{name}")]
