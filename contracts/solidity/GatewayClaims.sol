// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {GatewayCustody} from "./GatewayCustody.sol";

/// @title Who is owed what: accounts, their balances per asset, fees, and the number of every money event.
/// @notice `totalLiabilities` moves with every claim; crediting and debiting by the same amount leaves it as it is.
abstract contract GatewayClaims is GatewayCustody {
    /// @notice Opens accounts, charges subscriptions, may capture, void and refund (to the payer) for merchants.
    bytes32 public constant OPERATOR_ROLE = keccak256("OPERATOR_ROLE");

    uint8 public constant KIND_CUSTOMER = 1;
    uint8 public constant KIND_MERCHANT = 2;
    uint8 public constant KIND_FEES = 3;
    uint16 public constant FEE_BASIS_POINTS_MAX = 2_000;
    uint256 private constant BASIS_POINTS = 10_000;

    struct Account {
        address owner;
        uint8 kind;
    }

    struct FeeSchedule {
        bool set;
        bool returnedOnRefund;
        uint16 basisPoints;
        bytes32 feeAccount;
    }

    /// @notice The number of the last money event; the first one is 1.
    uint64 public eventSeq;
    mapping(bytes32 accountId => Account) private _accounts;
    mapping(bytes32 accountId => mapping(address asset => uint256)) private _balances;
    mapping(bytes32 merchantId => FeeSchedule) private _feeSchedules; // id 0: for merchants without their own

    /// @notice `kind` is one of KIND_CUSTOMER, KIND_MERCHANT, KIND_FEES. Ids are never used again.
    function _openAccount(bytes32 accountId, address owner, uint8 kind, bytes32 externalRef) internal {
        if (accountId == 0) revert ZeroId();
        if (owner == address(0) || owner == address(this)) revert RecipientRefused(owner);
        if (kind < KIND_CUSTOMER || kind > KIND_FEES) revert AccountKindWrong(accountId, KIND_CUSTOMER, kind);
        if (_accounts[accountId].kind != 0) revert AccountExists(accountId);
        _accounts[accountId] = Account({owner: owner, kind: kind});
        emit AccountOpened(accountId, owner, kind, externalRef);
    }

    /// @notice Fees of one merchant, or with id 0 of all that have no schedule of their own. For payments made from now on.
    /// `returnedOnRefund`: a refund takes its share of the fee from the fee account, as far as that has it.
    function setFeeSchedule(bytes32 merchantId, uint16 basisPoints, bytes32 feeAccount, bool returnedOnRefund)
        external
        onlyRole(DEFAULT_ADMIN_ROLE)
    {
        if (merchantId != 0) _requireKind(merchantId, KIND_MERCHANT);
        if (basisPoints > FEE_BASIS_POINTS_MAX) revert FeeTooHigh(basisPoints);
        if (basisPoints != 0 || feeAccount != 0) _requireKind(feeAccount, KIND_FEES);
        _feeSchedules[merchantId] = FeeSchedule({
            set: true,
            returnedOnRefund: returnedOnRefund,
            basisPoints: basisPoints,
            feeAccount: feeAccount
        });
        emit FeeScheduleSet(merchantId, basisPoints, feeAccount, returnedOnRefund);
    }

    function feeSchedule(bytes32 merchantId)
        external
        view
        returns (uint16 basisPoints, bytes32 feeAccount, bool returnedOnRefund)
    {
        FeeSchedule memory schedule = _feeScheduleOf(merchantId);
        return (schedule.basisPoints, schedule.feeAccount, schedule.returnedOnRefund);
    }

    function accountOf(bytes32 accountId) external view returns (address owner, uint8 kind) {
        Account storage account = _accounts[accountId];
        return (account.owner, account.kind);
    }

    /// @notice What the account can withdraw; holds are not in it.
    function balanceOf(bytes32 accountId, address asset) public view returns (uint256) {
        return _balances[accountId][asset];
    }

    function _nextSeq() internal returns (uint64) {
        return ++eventSeq;
    }

    function _ownerOf(bytes32 accountId) internal view returns (address) {
        return _accounts[accountId].owner;
    }

    function _requireOpen(bytes32 accountId) internal view {
        if (_accounts[accountId].kind == 0) revert AccountUnknown(accountId);
    }

    function _requireKind(bytes32 accountId, uint8 kind) internal view {
        _requireOpen(accountId);
        uint8 actual = _accounts[accountId].kind;
        if (actual != kind) revert AccountKindWrong(accountId, kind, actual);
    }

    function _requireOwner(bytes32 accountId) internal view {
        _requireOpen(accountId);
        if (msg.sender != _accounts[accountId].owner) revert NotAllowed(msg.sender);
    }

    function _requireOwnerOrOperator(bytes32 accountId) internal view {
        if (msg.sender != _accounts[accountId].owner && !hasRole(OPERATOR_ROLE, msg.sender)) {
            revert NotAllowed(msg.sender);
        }
    }

    function _feeScheduleOf(bytes32 merchantId) internal view returns (FeeSchedule memory schedule) {
        schedule = _feeSchedules[merchantId];
        if (!schedule.set) schedule = _feeSchedules[0];
    }

    /// @dev Rounds down: the merchant never pays a fraction more than agreed.
    function _feeOf(uint256 gross, uint16 basisPoints) internal pure returns (uint256) {
        return Math.mulDiv(gross, basisPoints, BASIS_POINTS);
    }

    function _credit(bytes32 accountId, address asset, uint256 amount) internal {
        _balances[accountId][asset] += amount;
        totalLiabilities[asset] += amount;
    }

    function _debit(bytes32 accountId, address asset, uint256 amount) internal {
        uint256 balance = _balances[accountId][asset];
        if (balance < amount) revert BalanceTooLow(accountId, asset, balance, amount);
        _balances[accountId][asset] = balance - amount;
        totalLiabilities[asset] -= amount;
    }

    /// @dev Gross to the merchant less the fee to the fee account.
    function _creditNet(bytes32 merchantId, bytes32 feeAccount, address asset, uint256 gross, uint256 fee) internal {
        _credit(merchantId, asset, gross - fee);
        if (fee != 0) _credit(feeAccount, asset, fee);
    }
}
