// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ITransferHook} from "./CallbackToken.sol";

/// @title A customer, merchant or payer that is a contract: it calls back when it is paid, refuses to be paid, or burns gas.
/// @notice Anyone may use it: it exists in tests only.
contract Attacker is ITransferHook {
    enum Mode {
        Accept,
        Strike, // calls `target` with `data`, remembers what came of it, and goes on
        Refuse,
        BurnGas
    }

    Mode public mode;
    address public target;
    bytes public data;
    uint256 public value;
    uint256 public strikes;
    uint256 public successes;
    bytes public lastAnswer;

    function arm(Mode mode_, address target_, bytes calldata data_, uint256 value_) external {
        (mode, target, data, value) = (mode_, target_, data_, value_);
    }

    function execute(address to, bytes calldata callData, uint256 value_) external payable {
        (bool success, bytes memory answer) = to.call{value: value_}(callData);
        if (!success) {
            assembly {
                revert(add(answer, 32), mload(answer))
            }
        }
    }

    receive() external payable {
        _react();
    }

    function tokensToSend(address, address, uint256) external {
        _react();
    }

    function tokensReceived(address, address, uint256) external {
        _react();
    }

    function _react() private {
        if (mode == Mode.Accept) return;
        require(mode != Mode.Refuse, "refused");
        if (mode == Mode.BurnGas) while (true) {}
        ++strikes;
        (bool success, bytes memory answer) = target.call{value: value}(data);
        if (success) ++successes;
        lastAnswer = answer;
    }
}
