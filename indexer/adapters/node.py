"""One JSON-RPC node: typed, checked answers to the few questions that the indexer asks.

Raw response bytes go through msgspec into typed structs; web3's formatters cost fifty times as much. Every answer is
untrusted: form, block hash and order are checked here, content against bloom in the pipeline.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeVar

import msgspec

from deploy.runtime.rpc import Rpc, RpcTransportError
from indexer.core.assemble import PlacedLog, check_order, placed
from indexer.core.blocks import Header, MalformedAnswer, RawBlock, RawLog, header_of, quantity
from indexer.core.bloom import bloom_of
from indexer.errors import MethodMissing, NodeBehind, NodeLied, NodeUnavailable, RangeTooLarge
from indexer.ports import LogFilter

METHOD_NOT_FOUND: Final = -32601
Tag = Literal["latest", "safe", "finalized"]
_T = TypeVar("_T", bound="_Answer")


class RpcError(msgspec.Struct, frozen=True):
    """The error object of JSON-RPC 2.0."""

    code: int | float | str | None = 0  # an integer, says the specification
    message: str | None = ""
    data: Any = None


class _Receipt(msgspec.Struct, frozen=True):
    logs: list[RawLog]


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    id: int | str | None = None
    error: RpcError | None = None


class _TextAnswer(_Answer, frozen=True, kw_only=True):
    result: str | None = None


class _BlockAnswer(_Answer, frozen=True, kw_only=True):
    result: RawBlock | None = None


class _LogsAnswer(_Answer, frozen=True, kw_only=True):
    result: list[RawLog] | None = None


class _ReceiptsAnswer(_Answer, frozen=True, kw_only=True):
    result: list[_Receipt] | None = None


_text_decoder = msgspec.json.Decoder(_TextAnswer)
_block_decoder = msgspec.json.Decoder(_BlockAnswer)
_logs_decoder = msgspec.json.Decoder(_LogsAnswer)
_receipts_decoder = msgspec.json.Decoder(_ReceiptsAnswer)
_encoder = msgspec.json.Encoder()

_NO_SUCH_METHOD: Final = re.compile(
    r"method not (?:found|supported|available|allowed)|unsupported method"
    r"|the method \S+ (?:does not exist|is not)|method \S+ (?:is )?not (?:supported|found|available|allowed)",
    re.IGNORECASE,
)
_BEHIND: Final = re.compile(
    r"after last accepted block|beyond current head block|cannot query unfinalized data|invalid block height"
    r"|header not found|unknown block|block not found|BlockOutOfRange",
    re.IGNORECASE,
)
_TOO_LARGE: Final = re.compile(
    r"query returned more than|log response size exceeded|limited to an? [\d,k]+|up to an? [\d,k]+ block"
    r"|limited to [\d,k]+ block|requested too many blocks|max(?:imum)? (?:block )?range|limit the query to at most"
    r"|exceeds the range|exceeds? max(?:imum)? block range|block range (?:is |)(?:too large|greater than|exceeds)"
    r"|blocks distance|range is too large|number of requested blocks|too wide blocks range|exceeds max results"
    r"|exceeds limit of|backend response too large|should not greater than|are not supported on freetier"
    r"|no backend is currently healthy|response is too big|exceeded max allowed|more than [\d,]+ logs|too many results"
    r"|query timeout exceeded|request timed out",
    re.IGNORECASE,
)
_NAMED_LIMIT: Final = re.compile(
    r"(?:limited to an?|up to an?|limited to|maximum is set to|max range:|maximum block range:|at most"
    r"|max block range:?|greater than|exceeds|maximum \[from, to\] blocks distance:|maximum allowed is|max is"
    r"|requested blocks is|the limit is)\s*([\d,]+)(k?)\b",
    re.IGNORECASE,
)


class Node:
    """Asks one node. Raises NodeUnavailable, NodeBehind, NodeLied, RangeTooLarge; all may pass on another try."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._ids = itertools.count(1)

    @property
    def name(self) -> str:
        return self._rpc.name

    @property
    def count(self) -> int:
        return 1

    def distrust(self) -> None:
        """There is no other node here."""

    async def hashes_at(self, number: int) -> list[str]:
        header = await self.header_by_number(number)
        return [] if header is None else [header.hash]

    async def chain_id(self) -> int:
        answer = await self._ask("eth_chainId", [], _text_decoder)
        try:
            return quantity(answer.result, "the chain id")
        except MalformedAnswer as exc:
            raise NodeLied(f"{self.name}, eth_chainId: {exc}") from exc

    async def genesis_hash(self) -> str:
        genesis = await self.header_by_number(0)
        if genesis is None:
            raise NodeLied(f"{self.name} has no block 0")
        return genesis.hash

    async def header_by_tag(self, tag: Tag) -> Header | None:
        return await self._header("eth_getBlockByNumber", [tag, False])

    async def header_by_number(self, number: int) -> Header | None:
        header = await self._header("eth_getBlockByNumber", [hex(number), False])
        if header is not None and header.number != number:
            raise NodeLied(f"{self.name} answered with block {header.number} for number {number}")
        return header

    async def header_by_hash(self, block_hash: str) -> Header | None:
        header = await self._header("eth_getBlockByHash", [block_hash, False])
        if header is not None and header.hash != block_hash:
            raise NodeLied(f"{self.name} answered with block {header.hash} for hash {block_hash}")
        return header

    async def logs_of_block(self, header: Header, wanted: LogFilter) -> list[PlacedLog]:
        """The logs of one block, by its hash (EIP-234), in order."""
        query = {"blockHash": header.hash, **_filter(wanted)}
        logs = await self._logs([query])
        return self._placed(logs, header)

    async def logs_from_receipts(self, header: Header, wanted: LogFilter) -> list[PlacedLog]:
        """The same from every log of the block, which must make its bloom, filtered here.

        From eth_getBlockReceipts, or from eth_getLogs without a filter where the node does not have that method.
        """
        try:
            logs = self._placed(await self._receipts(header), header)
        except MethodMissing:
            logs = self._placed(await self._logs([{"blockHash": header.hash}]), header)
        if bloom_of((log.address, log.topics) for log in logs) != header.logs_bloom:
            raise NodeLied(f"{self.name} gives logs that do not make the bloom of block {header.number}")
        addresses, topic0s = frozenset(wanted.addresses), frozenset(wanted.topic0s)
        return [
            log for log in logs if log.address in addresses and log.topics and "0x" + log.topics[0].hex() in topic0s
        ]

    async def logs_of_range(self, from_block: int, to_block: int, wanted: LogFilter) -> list[PlacedLog]:
        """The logs of an inclusive range at or below finality, in order; timestamp 0 where the node gives none."""
        query = {"fromBlock": hex(from_block), "toBlock": hex(to_block), **_filter(wanted)}
        logs = await self._logs([query])
        try:
            out = [placed(log, block_timestamp=None if log.block_timestamp else 0) for log in logs]
            check_order(out)
        except MalformedAnswer as exc:
            raise NodeLied(f"{self.name}, logs of {from_block}–{to_block}: {exc}") from exc
        if out and not from_block <= out[0].block_number <= out[-1].block_number <= to_block:
            raise NodeLied(f"{self.name} answered with logs outside {from_block}–{to_block}")
        return out

    def _placed(self, logs: Sequence[RawLog], header: Header) -> list[PlacedLog]:
        try:
            out = [placed(log, block_timestamp=header.timestamp) for log in logs]
            check_order(out)
        except MalformedAnswer as exc:
            raise NodeLied(f"{self.name}, logs of block {header.number}: {exc}") from exc
        foreign = [log for log in out if log.block_hash != header.hash or log.block_number != header.number]
        if foreign:
            raise NodeLied(f"{self.name} answered with logs of block {foreign[0].block_hash} for {header.hash}")
        return out

    async def _logs(self, params: list[Any]) -> list[RawLog]:
        answer = await self._ask("eth_getLogs", params, _logs_decoder)
        if answer.result is None:
            raise NodeLied(f"{self.name} answered eth_getLogs with null")
        return answer.result

    async def _receipts(self, header: Header) -> list[RawLog]:
        answer = await self._ask("eth_getBlockReceipts", [header.hash], _receipts_decoder)
        if answer.result is None:
            raise NodeBehind(f"{self.name} has no receipts of block {header.number} {header.hash}")
        return [log for receipt in answer.result for log in receipt.logs]

    async def _header(self, method: str, params: list[Any]) -> Header | None:
        answer = await self._ask(method, params, _block_decoder)
        if answer.result is None:
            return None
        try:
            return header_of(answer.result)
        except MalformedAnswer as exc:
            raise NodeLied(f"{self.name}, {method}: {exc}") from exc

    async def _ask(self, method: str, params: list[Any], decoder: msgspec.json.Decoder[_T]) -> _T:
        number = next(self._ids)
        raw = await self._post(method, {"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        try:
            answer = decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise NodeLied(f"{self.name} answered {method} in another form: {exc}") from exc
        if answer.id != number and not (answer.id is None and answer.error):  # an unread request's error has no id
            raise NodeLied(f"{self.name} answered {method} with the answer to request {answer.id!r}, not {number}")
        if answer.error is not None:
            raise self._classified(method, answer.error)
        return answer

    async def _post(self, method: str, request: dict[str, Any]) -> bytes:
        try:
            return await self._rpc.provider.post(_encoder.encode(request))
        except RpcTransportError as exc:
            if exc.too_much and method == "eth_getLogs":
                raise RangeTooLarge(str(exc)) from exc
            if exc.body is None:
                raise NodeUnavailable(str(exc)) from exc
            return exc.body

    def _classified(self, method: str, error: RpcError) -> Exception:
        said = f"{error.message or ''} {error.data if error.data is not None else ''}".strip()
        text = f"{self.name} refused {method}: {said} ({error.code})"
        if error.code == METHOD_NOT_FOUND or _NO_SUCH_METHOD.search(said):
            return MethodMissing(text)
        if _BEHIND.search(said):
            return NodeBehind(text)
        if method == "eth_getLogs" and _TOO_LARGE.search(said):
            return RangeTooLarge(text, blocks_max=named_limit(said))
        return NodeUnavailable(text)


def named_limit(text: str) -> int | None:
    """The number of blocks that a node's refusal names, if it names one."""
    match = _NAMED_LIMIT.search(text)
    if match is None:
        return None
    return int(match[1].replace(",", "")) * (1000 if match[2] else 1)


def _filter(wanted: LogFilter) -> dict[str, Any]:
    return {"address": list(wanted.addresses), "topics": [list(wanted.topic0s)]}
