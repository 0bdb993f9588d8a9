// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BareToken} from "./BareToken.sol";

/// @title All balances change at once, without a log. This one shows no shares, so nobody can tell beforehand.
contract RebasingToken is BareToken {
    uint256 public scalePercent = 100;

    constructor() BareToken("REB") {}

    function setScale(uint256 percent) external {
        scalePercent = percent;
    }

    function balanceOf(address account) public view override returns (uint256) {
        return _units[account] * scalePercent / 100;
    }

    function _move(address from, address to, uint256 amount) internal override {
        uint256 units = amount * 100 / scalePercent;
        _units[from] -= units;
        _units[to] += units;
        emit Transfer(from, to, amount);
    }
}

/// @title A rebasing token that shows its shares, as stETH does.
contract SharesToken is RebasingToken {
    function sharesOf(address account) external view returns (uint256) {
        return _units[account];
    }
}

/// @title A rebasing token that shows its shares, as Aave's tokens and AMPL do.
contract ScaledToken is RebasingToken {
    function scaledBalanceOf(address account) external view returns (uint256) {
        return _units[account];
    }
}
