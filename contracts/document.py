"""The canonical document of a description's version: its JSON, its hash, and what can be rebuilt from it alone."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import ValidationError

from contracts.description import ContractDocument, CustodyDocument
from contracts.typed import DocumentError, Issue, TypedContract, TypedCustody, type_contract, type_custody


def canonical_json(document: dict[str, Any]) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; there are no floats in a document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def document_version(document: dict[str, Any]) -> str:
    """0x and the sha256 of the canonical JSON."""
    return "0x" + hashlib.sha256(canonical_json(document)).hexdigest()


def type_document(document: dict[str, Any]) -> TypedContract | TypedCustody:
    """A document, as the registry topic has it, typed against its own ABI. Raises DocumentError."""
    try:
        # Through JSON: there, and only there, are the keys of ``dict[int, …]`` and lists what pydantic's strict mode
        # expects.
        content = canonical_json(document)
        match document.get("format"):
            case "chainbooks.contract.v1":
                return type_contract(ContractDocument.model_validate_json(content))
            case "chainbooks.custody.v1":
                return type_custody(CustodyDocument.model_validate_json(content))
            case other:
                what = f"document format {other!r} is unknown to this version"
                raise DocumentError([Issue(path=("format",), what=what, do="upgrade chainbooks")])
    except ValidationError as exc:
        issues = [Issue(path=tuple(e["loc"]), what=e["msg"], do="publish the description again") for e in exc.errors()]
        raise DocumentError(issues) from exc
