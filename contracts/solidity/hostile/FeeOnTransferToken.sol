// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BareToken} from "./BareToken.sol";

/// @title Burns one percent of each transfer: of 100 it logs and moves 99.
contract FeeOnTransferToken is BareToken("FEE") {
    function _move(address from, address to, uint256 amount) internal override {
        uint256 fee = amount / 100;
        _units[from] -= amount;
        _units[to] += amount - fee;
        emit Transfer(from, to, amount - fee);
        emit Transfer(from, address(0), fee);
    }
}
