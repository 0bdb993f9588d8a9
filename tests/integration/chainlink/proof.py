"""Makes proofs that the real VRF coordinator verifies: the oracle's side of VRF.sol, on secp256k1, in plain integers.

For tests only: slow, and the nonce is derived from the secret key and the seed without any care for side channels.
Words are 32 bytes big-endian; points are affine (x, y).
"""

from __future__ import annotations

from typing import Final

from eth_hash.auto import keccak

FIELD: Final = 2**256 - 2**32 - 977
ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
GENERATOR: Final = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
HASH_TO_CURVE, SCALAR_FROM_POINTS = 1, 2  # prefixes of what is hashed

Point = tuple[int, int]
Proof = tuple[Point, Point, int, int, int, str, Point, Point, int]
"""VRF.Proof: pk, gamma, c, s, seed, uWitness, cGammaWitness, sHashWitness, zInv."""


def public_key(secret: int) -> Point:
    return multiply(GENERATOR, secret)


def key_hash(key: Point) -> bytes:
    return keccak(_words(*key))


def prove(secret: int, pre_seed: int, block_hash: bytes) -> Proof:
    """A proof for the request with this pre-seed, made in the block with this hash."""
    key = public_key(secret)
    seed = int.from_bytes(keccak(_words(pre_seed) + block_hash), "big")
    hashed = _hash_to_curve(key, seed)
    gamma = multiply(hashed, secret)
    nonce = int.from_bytes(keccak(_words(secret, seed)), "big") % ORDER
    witness = keccak(_words(*multiply(GENERATOR, nonce)))[-20:]
    points = _words(SCALAR_FROM_POINTS, *hashed, *key, *gamma, *multiply(hashed, nonce))
    c = int.from_bytes(keccak(points + witness), "big")
    s = (nonce - c * secret) % ORDER
    c_gamma, s_hash = multiply(gamma, c), multiply(hashed, s)
    return key, gamma, c, s, pre_seed, "0x" + witness.hex(), c_gamma, s_hash, _inverse_z(c_gamma, s_hash)


def multiply(point: Point, scalar: int) -> Point:
    """Double and add. The scalar must not be a multiple of the group's order."""
    found: Point | None = None
    for bit in f"{scalar % ORDER:b}":
        found = None if found is None else _add(found, found)
        if bit == "1":
            found = point if found is None else _add(found, point)
    assert found is not None
    return found


def _add(p: Point, q: Point) -> Point:
    rise, run = (3 * p[0] * p[0], 2 * p[1]) if p == q else (q[1] - p[1], q[0] - p[0])
    slope = rise * pow(run, -1, FIELD)
    x = (slope * slope - p[0] - q[0]) % FIELD
    return x, (slope * (p[0] - x) - p[1]) % FIELD


def _hash_to_curve(key: Point, seed: int) -> Point:
    x = _field_hash(_words(HASH_TO_CURVE, *key, seed))
    while True:
        square = (pow(x, 3, FIELD) + 7) % FIELD
        y = pow(square, (FIELD + 1) // 4, FIELD)
        if y * y % FIELD == square:
            return x, FIELD - y if y % 2 else y
        x = _field_hash(_words(x))


def _field_hash(data: bytes) -> int:
    x = int.from_bytes(keccak(data), "big")
    while x >= FIELD:
        x = int.from_bytes(keccak(_words(x)), "big")
    return x


def _inverse_z(p: Point, q: Point) -> int:
    """1/z of VRF._projectiveECAdd(p, q), which follows the same fractions.

    There x has the denominator d², y has d³ (d = qx − px), and z is their product unless they are equal.
    """
    d = (q[0] - p[0]) % FIELD
    over_x, over_y = d * d % FIELD, d * d * d % FIELD
    return pow(over_x if over_x == over_y else over_x * over_y, -1, FIELD)


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(32, "big") for value in values)
