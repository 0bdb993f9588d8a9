// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BareToken} from "./BareToken.sol";

/// @title What a holder registers to be called in the middle of a transfer.
interface ITransferHook {
    function tokensToSend(address from, address to, uint256 amount) external;
    function tokensReceived(address from, address to, uint256 amount) external;
}

/// @title Calls sender and recipient while it moves money, as ERC-777 does.
contract CallbackToken is BareToken("CALL") {
    mapping(address account => address) public hookOf;

    function setHook(address hook) external {
        hookOf[msg.sender] = hook;
    }

    function _move(address from, address to, uint256 amount) internal override {
        if (hookOf[from] != address(0)) ITransferHook(hookOf[from]).tokensToSend(from, to, amount);
        _units[from] -= amount;
        _units[to] += amount;
        emit Transfer(from, to, amount);
        if (hookOf[to] != address(0)) ITransferHook(hookOf[to]).tokensReceived(from, to, amount);
    }
}
