"""Compiles Chainlink's own contracts from its npm package: ``python -m contracts.solidity.chainlink [--check]``.

    <node folder>/chainlink/@chainlink/contracts ──► <node folder>/compiled/<hash>.json   cache for tests, not committed
    (`make setup` fetches it)                    ──► contracts/abi/<Contract>.json        ABIs that descriptions name

Compiler, optimizer and target are those of the deployed VRF coordinators. The bytecode is not committed: some files are
not ours to hand on (LinkToken's ERC677.sol is UNLICENSED, WETH9 is GPL); VRF's are MIT. Exit codes as `build`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from contracts.solidity.artifacts import Artifact
from contracts.solidity.build import ABIS, CompileError, ToolMissing, node_folder, require_package, run_solc

PACKAGE: Final = "@chainlink/contracts"
PACKAGE_VERSION: Final = "1.4.0"
SOLC: Final = "solc-0.8.19"  # the name under which npm has this version beside ours
SOLC_VERSION: Final = "0.8.19"

CONTRACTS: Final[Mapping[str, str]] = {  # source, below the package's src/v0.8
    "VRFCoordinatorV2_5": "vrf/dev/VRFCoordinatorV2_5.sol",
    "VRFV2PlusWrapper": "vrf/dev/VRFV2PlusWrapper.sol",
    "LinkToken": "shared/token/ERC677/LinkToken.sol",
    "WETH9": "vendor/canonical-weth/WETH9.sol",
    # Only for tests: the price feed, consumers, and the coordinator that a subscription migrates to.
    "MockV3Aggregator": "shared/mocks/MockV3Aggregator.sol",
    "VRFV2PlusConsumerExample": "vrf/dev/testhelpers/VRFV2PlusConsumerExample.sol",
    "VRFV2PlusRevertingExample": "vrf/dev/testhelpers/VRFV2PlusRevertingExample.sol",
    "VRFV2PlusWrapperConsumerExample": "vrf/dev/testhelpers/VRFV2PlusWrapperConsumerExample.sol",
    "VRFCoordinatorV2Plus_V2Example": "vrf/dev/testhelpers/VRFCoordinatorV2Plus_V2Example.sol",
}
ABI_OF_DESCRIPTIONS: Final = ("VRFCoordinatorV2_5", "VRFV2PlusWrapper")
SETTINGS: Final[Mapping[str, Any]] = {
    "optimizer": {"enabled": True, "runs": 500},
    "evmVersion": "paris",
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
}


def compiled(node_dir: Path) -> dict[str, Artifact]:
    """Every contract by name; compiled once per machine. Raises ToolMissing, CompileError."""
    sources = node_dir / "chainlink"
    require_package(sources, PACKAGE, PACKAGE_VERSION)
    require_package(node_dir / "node_modules", SOLC, SOLC_VERSION)
    standard_json = _standard_json(sources)
    key = hashlib.sha256(json.dumps([PACKAGE_VERSION, SOLC_VERSION, standard_json]).encode()).hexdigest()
    cache = node_dir / "compiled" / f"{key[:32]}.json"
    if not cache.exists():
        cache.parent.mkdir(exist_ok=True)
        partial = cache.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(_compile(node_dir, sources, standard_json)), "utf-8")
        partial.replace(cache)
    return {name: Artifact(name=name, **fields) for name, fields in json.loads(cache.read_bytes()).items()}


def abi_files(artifacts: Mapping[str, Artifact]) -> dict[Path, str]:
    """The text of every ABI that is committed, by path."""
    return {
        ABIS / f"{name}.json": json.dumps(artifacts[name].abi, indent=2, ensure_ascii=False) + "\n"
        for name in ABI_OF_DESCRIPTIONS
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m contracts.solidity.chainlink", description="Compile Chainlink's contracts, write their ABIs."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a committed ABI differs")
    options = parser.parse_args(arguments)
    try:
        files = abi_files(compiled(node_folder()))
    except ToolMissing as problem:
        sys.stderr.write(f"contracts: {problem}\n")
        return 3
    except CompileError as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    differing = [path for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in differing:
        if options.check:
            sys.stderr.write(f"{path.name} differs; run `make contracts` and commit the result\n")
        else:
            path.write_text(files[path], "utf-8")
    return 1 if options.check and differing else 0


def _standard_json(sources: Path) -> dict[str, Any]:
    names = {contract: f"{PACKAGE}/src/v0.8/{source}" for contract, source in CONTRACTS.items()}
    contents = {name: {"content": (sources / name).read_text("utf-8")} for name in names.values()}
    wanted = {names[contract]: {contract: ["abi", "evm.bytecode.object"]} for contract in CONTRACTS}
    return {"language": "Solidity", "sources": contents, "settings": {**SETTINGS, "outputSelection": wanted}}


def _compile(node_dir: Path, sources: Path, standard_json: Mapping[str, Any]) -> dict[str, Any]:
    output = run_solc(node_dir, standard_json, solc=SOLC, imports=sources)["output"]
    errors = [e["formattedMessage"] for e in output.get("errors", []) if e["severity"] == "error"]
    if errors:
        raise CompileError("\n".join(errors))
    return {
        name: {"abi": contract["abi"], "bytecode": "0x" + contract["evm"]["bytecode"]["object"]}
        for contracts in output["contracts"].values()
        for name, contract in contracts.items()
    }


if __name__ == "__main__":
    sys.exit(main())
