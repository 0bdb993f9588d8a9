// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BareToken} from "./BareToken.sol";

/// @title Logs the amount that was asked for and moves another: by default one percent less.
contract LyingToken is BareToken("LIE") {
    uint256 public takenPercent = 100; // of the amount, from the sender
    uint256 public givenPercent = 99; // of the amount, to the recipient

    function setPercents(uint256 taken, uint256 given) external {
        takenPercent = taken;
        givenPercent = given;
    }

    function _move(address from, address to, uint256 amount) internal override {
        _units[from] -= amount * takenPercent / 100;
        _units[to] += amount * givenPercent / 100;
        emit Transfer(from, to, amount);
    }
}
