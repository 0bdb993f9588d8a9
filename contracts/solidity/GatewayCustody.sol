// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {LowLevelCall} from "@openzeppelin/contracts/utils/LowLevelCall.sol";
import {IPaymentGateway} from "./IPaymentGateway.sol";

/// @title What the gateway holds: which assets, how much of each, and the only two ways in and out.
/// @notice Never believes an amount that a token tells; the measured difference of its own balance counts.
/// Knows nothing of accounts, only the sum that is owed per asset.
abstract contract GatewayCustody is IPaymentGateway, AccessControl {
    using SafeERC20 for IERC20;

    address public constant NATIVE = address(0);
    uint8 private constant NATIVE_DECIMALS = 18;

    struct Asset {
        bool listed;
        bool feeOnTransfer; // may arrive short of what was sent
        uint8 decimals;
        uint256 balanceSeen; // at our last movement; less than this later means that the token took some away
    }

    mapping(address asset => Asset) internal _assets;

    /// @notice What is owed in this asset: all available balances and all holds.
    mapping(address asset => uint256) public totalLiabilities;

    /// @notice Takes an asset on (again). Decimals are read from the token. Tokens that are known to rebase, by the shares
    /// that they show, are refused here; others are found by `_pull` when their balance shrinks.
    function listAsset(address asset, bool feeOnTransfer) external onlyRole(DEFAULT_ADMIN_ROLE) {
        uint8 decimals = NATIVE_DECIMALS;
        uint256 balance = 0;
        if (asset != NATIVE) {
            if (_showsShares(asset, "sharesOf(address)") || _showsShares(asset, "scaledBalanceOf(address)")) {
                revert AssetRebases(asset);
            }
            decimals = IERC20Metadata(asset).decimals();
            balance = IERC20(asset).balanceOf(address(this));
            uint256 owed = totalLiabilities[asset];
            if (balance < owed) revert BalanceShrank(asset, owed, balance);
        }
        _assets[asset] =
            Asset({listed: true, feeOnTransfer: feeOnTransfer, decimals: decimals, balanceSeen: balance});
        emit AssetListed(asset, decimals);
    }

    /// @notice No more of it comes in; what is held can still be captured, refunded, moved and withdrawn.
    function delistAsset(address asset) external onlyRole(DEFAULT_ADMIN_ROLE) {
        if (!_assets[asset].listed) revert AssetNotListed(asset);
        _assets[asset].listed = false;
        emit AssetDelisted(asset);
    }

    function assetTerms(address asset) external view returns (bool listed, bool feeOnTransfer, uint8 decimals) {
        Asset storage terms = _assets[asset];
        return (terms.listed, terms.feeOnTransfer, terms.decimals);
    }

    /// @notice What is held beyond what is owed: plain sends, roundings of nobody. 0 where there is a shortfall.
    function unattributed(address asset) public view returns (uint256) {
        uint256 held = _held(asset);
        uint256 owed = totalLiabilities[asset];
        return held > owed ? held - owed : 0;
    }

    /// @notice What is owed beyond what is held. Only a hostile or rebasing token can make it other than 0.
    function shortfall(address asset) external view returns (uint256) {
        uint256 held = _held(asset);
        uint256 owed = totalLiabilities[asset];
        return owed > held ? owed - held : 0;
    }

    function _requireListed(address asset) internal view {
        if (!_assets[asset].listed) revert AssetNotListed(asset);
    }

    function _held(address asset) private view returns (uint256) {
        return asset == NATIVE ? address(this).balance : IERC20(asset).balanceOf(address(this));
    }

    /// @dev Takes `amount` from the caller and returns what came in. To be called under the reentrancy guard, before effects:
    /// what came in can only be known afterwards.
    function _pull(address asset, uint256 amount) internal returns (uint256 received) {
        Asset storage terms = _assets[asset];
        if (!terms.listed) revert AssetNotListed(asset);
        if (amount == 0) revert ZeroAmount();
        uint256 value = asset == NATIVE ? amount : 0;
        if (msg.value != value) revert ValueWrong(value, msg.value);
        if (asset == NATIVE) return amount;

        uint256 balanceBefore = IERC20(asset).balanceOf(address(this));
        if (balanceBefore < terms.balanceSeen) revert BalanceShrank(asset, terms.balanceSeen, balanceBefore);
        IERC20(asset).safeTransferFrom(msg.sender, address(this), amount);
        uint256 balanceAfter = IERC20(asset).balanceOf(address(this));
        received = balanceAfter > balanceBefore ? balanceAfter - balanceBefore : 0;
        bool acceptable = received == amount || (terms.feeOnTransfer && received != 0 && received < amount);
        if (!acceptable) revert UnexpectedReceipt(asset, amount, received);
        terms.balanceSeen = balanceAfter;
    }

    /// @dev Sends `amount`. To be called under the reentrancy guard and last. More may not leave than was owed to the
    /// recipient, nor less: a token that takes from the sender too, or that moves nothing, makes the payout fail.
    function _pay(address asset, address to, uint256 amount) internal {
        if (to == address(0) || to == address(this)) revert RecipientRefused(to);
        if (asset == NATIVE) {
            if (!LowLevelCall.callNoReturn(to, amount, "")) revert NativePayoutFailed(to, amount);
            return;
        }
        Asset storage terms = _assets[asset];
        uint256 balanceBefore = IERC20(asset).balanceOf(address(this));
        bool shrank = balanceBefore < terms.balanceSeen;
        IERC20(asset).safeTransfer(to, amount);
        uint256 balanceAfter = IERC20(asset).balanceOf(address(this));
        if (balanceBefore < amount || balanceAfter != balanceBefore - amount) {
            revert UnexpectedPayout(asset, amount, balanceBefore, balanceAfter);
        }
        terms.balanceSeen = shrank ? terms.balanceSeen - amount : balanceAfter; // a shrinkage stays visible
    }

    function _showsShares(address asset, string memory signature) private view returns (bool) {
        (bool success, bytes memory answer) = asset.staticcall(abi.encodeWithSignature(signature, address(this)));
        return success && answer.length >= 32;
    }
}
