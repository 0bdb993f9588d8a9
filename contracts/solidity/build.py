"""Compiles the contracts of this folder with npm's solc: ``python -m contracts.solidity.build [--check]``.

    *.sol, hostile/*.sol ──► artifacts/<Contract>.json      one per deployable contract
    + OpenZeppelin (npm)     ../abi/<Contract>.json         those that descriptions name, and ERC20

Reproducible: versions and settings are pinned here and the metadata hash is left out of the bytecode, so the same
sources give the same files everywhere. The folder that holds `node_modules` is CHAINBOOKS_NODE_DIR, by default `node`
in the local stack's folder (`make setup` fills it). Exit codes: 0 fine, 1 a committed file differs (--check), 2 wrong
usage or sources that do not compile, 3 Node or a package is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

SOLC_VERSION: Final = "0.8.37"
OPENZEPPELIN_VERSION: Final = "5.7.0"
ERC20_SOURCE: Final = "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol"
ABI_OF_DESCRIPTIONS: Final = ("PaymentGateway", "LegacyVault")
COMPILE_TIMEOUT_S: Final = 300

SOURCES: Final = Path(__file__).parent
PROJECT: Final = SOURCES.parent.parent
ARTIFACTS: Final = SOURCES / "artifacts"
ABIS: Final = SOURCES.parent / "abi"

SETTINGS: Final[Mapping[str, Any]] = {
    "optimizer": {"enabled": True, "runs": 200},
    "evmVersion": "cancun",
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "metadata"]}},
}


class CompileError(Exception):
    """The sources do not compile; the text is the compiler's."""


class ToolMissing(Exception):
    """Node or a package is missing or of another version; the text says which and what to do."""


def node_folder() -> Path:
    """The folder with `node_modules`."""
    local = Path(os.environ.get("CHAINBOOKS_LOCAL_DIR") or PROJECT / ".local")
    return Path(os.environ.get("CHAINBOOKS_NODE_DIR") or local / "node")


def compile_sources(node_dir: Path) -> dict[Path, str]:
    """Compiles everything; returns the text of every file to be written, by path. Raises CompileError, ToolMissing."""
    for package, version in (("solc", SOLC_VERSION), ("@openzeppelin/contracts", OPENZEPPELIN_VERSION)):
        require_package(node_dir / "node_modules", package, version)
    own = {path.relative_to(SOURCES).as_posix(): path for path in sorted(SOURCES.rglob("*.sol"))}
    sources: dict[str, Any] = {name: {"content": path.read_text("utf-8")} for name, path in own.items()}
    openzeppelin = node_dir / "node_modules" / ERC20_SOURCE
    sources[ERC20_SOURCE] = {"content": openzeppelin.read_text("utf-8")}
    answer = run_solc(node_dir, {"language": "Solidity", "sources": sources, "settings": SETTINGS})
    problems = [problem["formattedMessage"] for problem in answer["output"].get("errors", [])]
    if problems:  # warnings too
        raise CompileError("\n".join(problems))
    return _files(answer["version"], answer["output"]["contracts"], own)


def differences(files: Mapping[Path, str]) -> list[str]:
    """What is committed but not as compiled, one line each, paths relative to the project."""
    lines = []
    for path, text in sorted(files.items()):
        name = path.relative_to(PROJECT)
        if not path.exists():
            lines.append(f"{name} is missing")
        elif path.read_text("utf-8") != text:
            lines.append(f"{name} differs from what its sources compile to")
    stale = (path for path in sorted(ARTIFACTS.glob("*.json")) if path not in files)
    return lines + [f"{path.relative_to(PROJECT)} has no source" for path in stale]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m contracts.solidity.build", description="Compile the Solidity contracts."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a committed file is not as compiled"
    )
    options = parser.parse_args(arguments)
    try:
        files = compile_sources(node_folder())
    except ToolMissing as problem:
        sys.stderr.write(f"contracts: {problem}\n")
        return 3
    except CompileError as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    if options.check:
        lines = differences(files)
        for line in lines:
            sys.stderr.write(f"{line}; run `make contracts` and commit the result\n")
        return 1 if lines else 0
    _write(files)
    sys.stdout.write(f"contracts: {len(files)} files written\n")
    return 0


def require_package(folder: Path, package: str, version: str) -> None:
    """Raises ToolMissing unless the folder has the package in this version."""
    description = folder / package / "package.json"
    if not description.exists():
        raise ToolMissing(f"npm package {package} {version} is not in {folder}; run `make setup`")
    found = json.loads(description.read_bytes())["version"]
    if found != version:
        raise ToolMissing(f"npm package {package} is {found}, {version} is pinned; run `make setup`")


def run_solc(
    node_dir: Path, standard_json: Mapping[str, Any], *, solc: str = "solc", imports: Path | None = None
) -> dict[str, Any]:
    """The compiler's version and its standard-JSON output. ``imports`` are read there, by default in node_modules.

    Raises ToolMissing, CompileError.
    """
    node = shutil.which("node")
    if node is None:
        raise ToolMissing("`node` is not on the PATH; run `make setup` or install Node.js 18 or newer")
    run = subprocess.run(  # noqa: S603 -- our own script, no shell
        [node, str(SOURCES / "compile.mjs"), str(node_dir), solc, str(imports or node_dir / "node_modules")],
        input=json.dumps(standard_json),
        capture_output=True,
        text=True,
        timeout=COMPILE_TIMEOUT_S,
        check=False,
    )
    if run.returncode != 0:
        raise CompileError(f"solc failed with exit code {run.returncode}:\n{run.stderr}")
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def _files(compiler: str, contracts: Mapping[str, Any], own: Mapping[str, Path]) -> dict[Path, str]:
    files: dict[Path, str] = {}
    for source in own:
        for name, contract in contracts.get(source, {}).items():
            bytecode = contract["evm"]["bytecode"]["object"]
            if not bytecode:  # abstract, or an interface
                continue
            artifact = {
                "contractName": name,
                "sourceName": source,
                "sourceHash": _source_hash(contract["metadata"]),
                "compiler": compiler,
                "abi": contract["abi"],
                "bytecode": "0x" + bytecode,
            }
            files[ARTIFACTS / f"{name}.json"] = _json(artifact)
            if name in ABI_OF_DESCRIPTIONS:
                files[ABIS / f"{name}.json"] = _json(contract["abi"])
    files[ABIS / "ERC20.json"] = _json(contracts[ERC20_SOURCE]["IERC20Metadata"]["abi"])
    return files


def _source_hash(metadata: str) -> str:
    """SHA-256 over the names and hashes of every source that went into the contract, OpenZeppelin's included."""
    hashes = {name: source["keccak256"] for name, source in json.loads(metadata)["sources"].items()}
    return "0x" + hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _write(files: Mapping[Path, str]) -> None:
    for stale in ARTIFACTS.glob("*.json"):
        if stale not in files:
            stale.unlink()
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
