"""A JSON-RPC node that a test scripts: real HTTP and WebSocket on loopback, real hashes, blooms and roots.

``chain`` grows the tree of blocks, ``answers`` says honestly what a node says of it, ``faults`` are the ways in which
an answer's way goes wrong, ``node`` serves and lets a test interfere, ``consensus`` is the oracle for all hashes::

    async with ScriptedNode(Chain()) as node:
        node.chain.mine([log])                                  # one block, one tx, one log
        node.answer("eth_getLogs", [], times=1)                 # a lie by omission
        node.misbehave(faults.status(429, retry_after_s=1), "eth_getLogs", times=2)
"""

from tests.fakes.rpc_node.chain import Block, Chain, Log
from tests.fakes.rpc_node.node import Call, RpcError, ScriptedNode

__all__ = ["Block", "Call", "Chain", "Log", "RpcError", "ScriptedNode"]
