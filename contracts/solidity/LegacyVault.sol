// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {LowLevelCall} from "@openzeppelin/contracts/utils/LowLevelCall.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

/// @title An older contract, as real ones are: its money is safe, its events are not complete.
/// @notice `withdrawQuietly` lowers the balance and moves the money without an event of the vault (as VRF v2.5's withdrawals do);
/// only the token's Transfer, or for native money nothing at all, tells of it. The native asset is the zero address.
contract LegacyVault is ReentrancyGuard {
    using SafeERC20 for IERC20;

    event Deposited(address indexed account, address indexed asset, uint256 amount);
    event Withdrawn(address indexed account, address indexed asset, address to, uint256 amount);

    error BalanceTooLow(uint256 balance, uint256 requested);
    error NativePayoutFailed(address to, uint256 amount);
    error RecipientRefused(address to);
    error ValueWrong(uint256 expected, uint256 actual);
    error ZeroAmount();

    mapping(address asset => uint256) public totalDeposits;
    mapping(address account => mapping(address asset => uint256)) public balanceOf;

    /// @notice Adds to the caller's balance what arrives. Native: asset is zero and `msg.value` is `amount`.
    function deposit(address asset, uint256 amount) external payable nonReentrant {
        uint256 value = asset == address(0) ? amount : 0;
        if (msg.value != value) revert ValueWrong(value, msg.value);
        uint256 received = asset == address(0) ? amount : _pull(asset, amount);
        if (received == 0) revert ZeroAmount();
        balanceOf[msg.sender][asset] += received;
        totalDeposits[asset] += received;
        emit Deposited(msg.sender, asset, received);
    }

    function withdraw(address asset, address to, uint256 amount) external nonReentrant {
        _debit(asset, amount);
        emit Withdrawn(msg.sender, asset, to, amount);
        _pay(asset, to, amount);
    }

    /// @notice As `withdraw`, without an event.
    function withdrawQuietly(address asset, address to, uint256 amount) external nonReentrant {
        _debit(asset, amount);
        _pay(asset, to, amount);
    }

    function _debit(address asset, uint256 amount) private {
        if (amount == 0) revert ZeroAmount();
        uint256 balance = balanceOf[msg.sender][asset];
        if (balance < amount) revert BalanceTooLow(balance, amount);
        balanceOf[msg.sender][asset] = balance - amount;
        totalDeposits[asset] -= amount;
    }

    function _pull(address asset, uint256 amount) private returns (uint256) {
        uint256 balanceBefore = IERC20(asset).balanceOf(address(this));
        IERC20(asset).safeTransferFrom(msg.sender, address(this), amount);
        return IERC20(asset).balanceOf(address(this)) - balanceBefore;
    }

    function _pay(address asset, address to, uint256 amount) private {
        if (to == address(0) || to == address(this)) revert RecipientRefused(to);
        if (asset != address(0)) IERC20(asset).safeTransfer(to, amount);
        else if (!LowLevelCall.callNoReturn(to, amount, "")) revert NativePayoutFailed(to, amount);
    }
}
