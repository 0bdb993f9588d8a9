"""Base units to text, exactly, with integers only. For the edge (reports, command lines).

Nothing inside computes with it.
"""

from __future__ import annotations

from typing import Final

DECIMALS_MAX: Final = 77
"""A uint256 has 78 digits; more decimals than that are a mistake or a trick."""


def format_units(amount_base_units: int, decimals: int) -> str:
    """``1500000, 6`` is ``1.5``; no rounding, no exponent, no trailing zeros.

    ValueError when decimals are out of 0…77.
    """
    _check(decimals)
    sign = "-" if amount_base_units < 0 else ""
    digits = str(abs(amount_base_units)).rjust(decimals + 1, "0")
    whole, fraction = (digits[:-decimals], digits[-decimals:].rstrip("0")) if decimals else (digits, "")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def _check(decimals: int) -> None:
    if not 0 <= decimals <= DECIMALS_MAX:
        raise ValueError(f"decimals {decimals} are outside 0…{DECIMALS_MAX}")
