"""anvil, the development node, as its native binary: HTTP and WebSocket on one loopback port."""

from __future__ import annotations

import json
import shutil
import signal
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from deploy.local import ports
from deploy.local.daemon import Daemon
from deploy.local.failure import LocalError


@dataclass(frozen=True, slots=True, kw_only=True)
class Anvil:
    """``options`` are further command-line arguments; ``binary`` is what ``find_binary`` returns."""

    daemon: Daemon
    binary: Path
    port: int
    options: tuple[str, ...] = ()
    chain_id: int = 31337

    @property
    def endpoint(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.port}"

    @property
    def ports(self) -> dict[str, int]:
        return {"CHAINBOOKS_LOCAL_ANVIL_PORT": self.port}

    def launch(self) -> None:
        """Raises LocalError when the binary does not run on this machine."""
        self.daemon.folder.mkdir(parents=True, exist_ok=True)
        command = [
            str(self.binary),
            "--host",
            ports.LOOPBACK,
            "--port",
            str(self.port),
            "--chain-id",
            str(self.chain_id),
        ]
        try:
            self.daemon.start([*command, *self.options], cwd=self.daemon.folder)
        except OSError as exc:
            raise LocalError(f"anvil cannot start: {self.binary}: {exc.strerror}", do="make setup") from exc

    def probe(self) -> str | None:
        """Asks for the chain id and compares it."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}).encode()
        request = urllib.request.Request(self.endpoint, data=body, headers={"Content-Type": "application/json"})  # noqa: S310 - loopback
        try:
            with urllib.request.urlopen(request, timeout=2.0) as response:  # noqa: S310 - loopback
                chain_id = int(json.load(response)["result"], 16)
        except (OSError, ValueError, KeyError) as exc:
            return f"no answer on port {self.port} yet ({type(exc).__name__})"
        return None if chain_id == self.chain_id else f"the chain id is {chain_id}, not {self.chain_id}"

    def stop(self) -> bool:
        how = signal.SIGKILL if self.daemon.ephemeral else signal.SIGTERM
        return self.daemon.stop(how=how, grace_s=10.0)


def find_binary(node_modules: Path) -> Path:
    """The native binary: the npm package's own, else one on the PATH. Raises LocalError.

    npm's ``anvil`` command is a script that starts the binary as a child; a signal to it may leave the child behind.
    """
    for found in sorted(node_modules.glob("@foundry-rs/anvil-*/bin/anvil*")):
        return found
    installed = shutil.which("anvil")
    if installed:
        return native_binary(Path(installed))
    raise LocalError("there is no anvil", why=f"neither below {node_modules} nor on the PATH", do="make setup")


def native_binary(command: Path) -> Path:
    """The binary behind npm's ``anvil`` command; the path itself when it is no such command."""
    script = command.resolve()
    if script.suffix == ".mjs":
        for found in sorted(script.parent.parent.glob("anvil-*/bin/anvil*")):
            return found
    return command
