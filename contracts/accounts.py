"""Account codes ``class:book:kind:subject:state``: parse, format, normal side.

Always five segments, ``-`` where there is none. The classes and their sides are the chart of accounts of the ledger.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

AccountClass = Literal["assets", "liabilities", "income", "expenses", "equity", "clearing"]
NormalSide = Literal["debit", "credit", "zero"]

ACCOUNT_CLASSES: Final[tuple[AccountClass, ...]] = get_args(AccountClass)
SEGMENT: Final = re.compile(r"[A-Za-z0-9_.\-]{1,128}\Z")
"""What a segment may hold: no colon, no space, so that a value from the chain can never choose another account."""

_NORMAL_SIDES: Final[dict[str, NormalSide]] = {
    "assets": "debit",
    "expenses": "debit",
    "liabilities": "credit",
    "income": "credit",
    "equity": "credit",
    "clearing": "zero",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountCode:
    """The five segments of a code."""

    account_class: AccountClass
    book: str
    kind: str
    subject: str = "-"
    state: str = "-"

    def __str__(self) -> str:
        return f"{self.account_class}:{self.book}:{self.kind}:{self.subject}:{self.state}"

    @property
    def normal_side(self) -> NormalSide:
        """The side on which the balance is positive; ``zero`` for clearing, which must be empty."""
        return normal_side(self.account_class)


def normal_side(account_class: str) -> NormalSide:
    """``assets`` and ``expenses`` debit; ``liabilities``, ``income``, ``equity`` credit; ``clearing`` zero.

    ValueError otherwise.
    """
    side = _NORMAL_SIDES.get(account_class)
    if side is None:
        raise ValueError(f"unknown account class {account_class!r}")
    return side


def parse_account(code: str) -> AccountCode:
    """The segments of ``class:book:kind:subject:state``; ValueError says what is wrong."""
    segments = code.split(":")
    if len(segments) != 5:
        raise ValueError(f"account code {code!r} has {len(segments)} segments, not 5 (class:book:kind:subject:state)")
    account_class, book, kind, subject, state = segments
    normal_side(account_class)
    for name, segment in (("book", book), ("kind", kind), ("subject", subject), ("state", state)):
        if not SEGMENT.match(segment):
            raise ValueError(
                f"account code {code!r}: {name} {segment!r} is empty or has characters other than A-Z a-z 0-9 _ . -"
            )
    for name, segment in (("book", book), ("kind", kind)):
        if segment == "-":
            raise ValueError(f"account code {code!r}: {name} cannot be '-'")
    return AccountCode(account_class=account_class, book=book, kind=kind, subject=subject, state=state)  # type: ignore[arg-type]  # checked by normal_side


def clearing_code(book: str, address: str) -> str:
    """``clearing:B:contract:{address}:-``: joins custody and claims of one contract; zero at every promoted block."""
    return f"clearing:{book}:contract:{address}:-"


def custody_code(book: str, address: str) -> str:
    """``assets:B:onchain:{address}:-``: what the address holds on chain."""
    return f"assets:{book}:onchain:{address}:-"


def unattributed_code(book: str, address: str) -> str:
    """``liabilities:B:unattributed:{address}:-``: inflow without a claim."""
    return f"liabilities:{book}:unattributed:{address}:-"
