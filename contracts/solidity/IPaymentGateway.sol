// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What the gateway says: its events and its errors.
/// @notice Money events carry the asset and `seq`, which counts them without a gap over the whole contract; whoever has
/// every number up to `eventSeq()` has every movement. Informational events move nothing and carry no `seq`.
/// Accounts, payments and invoices are named by 32-byte ids. The native asset is the zero address. Amounts are base units.
interface IPaymentGateway {
    // Money.
    event Deposited(
        bytes32 indexed accountId,
        address indexed asset,
        address indexed payer,
        uint256 received,
        uint256 balanceAfter,
        bytes32 ref,
        uint64 seq
    );
    event InvoicePaid(
        bytes32 indexed invoiceId,
        bytes32 indexed merchantId,
        address indexed asset,
        address payer,
        uint256 gross,
        uint256 fee,
        uint256 merchantBalanceAfter,
        bytes32 feeAccount,
        uint64 seq
    );
    event PaymentAuthorized(
        bytes32 indexed paymentId,
        bytes32 indexed merchantId,
        address indexed asset,
        address payer,
        uint256 amount,
        uint64 expiry,
        uint64 seq
    );
    event PaymentCaptured(
        bytes32 indexed paymentId,
        bytes32 indexed merchantId,
        address indexed asset,
        uint256 amount,
        uint256 fee,
        bytes32 feeAccount,
        uint256 remainingHold,
        uint64 seq
    );
    event PaymentVoided(bytes32 indexed paymentId, address indexed asset, address payer, uint256 amount, uint64 seq);
    event SubscriptionCharged(
        bytes32 indexed subscriptionId,
        bytes32 indexed customerId,
        bytes32 indexed merchantId,
        address asset,
        uint256 gross,
        uint256 fee,
        bytes32 feeAccount,
        uint64 periodStart,
        uint64 seq
    );
    /// @dev `amount` is what `to` is sent: the fee account pays `feeReturned` of it, the merchant the rest.
    event Refunded(
        bytes32 indexed paymentId,
        bytes32 indexed merchantId,
        address indexed asset,
        address to,
        uint256 amount,
        uint256 feeReturned,
        bytes32 feeAccount,
        uint256 refundedTotal,
        uint64 seq
    );
    event InternalTransfer(
        bytes32 indexed from, bytes32 indexed to, address indexed asset, uint256 amount, bytes32 ref, uint64 seq
    );
    event Withdrawn(
        bytes32 indexed accountId,
        address indexed asset,
        address indexed to,
        uint256 amount,
        uint256 balanceAfter,
        bytes32 ref,
        uint64 seq
    );
    /// @dev The other side of an adjustment is the unattributed money of the asset.
    event Adjusted(bytes32 indexed accountId, address indexed asset, int256 delta, bytes32 reason, uint64 seq);
    event UnattributedSwept(address indexed asset, address indexed to, uint256 amount, uint64 seq);

    // State and information.
    event AccountOpened(bytes32 indexed accountId, address indexed owner, uint8 kind, bytes32 externalRef);
    event PayoutFailed(bytes32 indexed paymentId, address indexed asset, address indexed to, uint256 amount);
    event FeeScheduleSet(
        bytes32 indexed merchantId, uint16 basisPoints, bytes32 feeAccount, bool returnedOnRefund
    );
    event AssetListed(address indexed asset, uint8 decimals);
    event AssetDelisted(address indexed asset);

    error AccountExists(bytes32 accountId);
    error AccountUnknown(bytes32 accountId);
    error AccountKindWrong(bytes32 accountId, uint8 expected, uint8 actual);
    error AdjustmentTooLarge(bytes32 accountId, address asset, uint256 limit, uint256 requested);
    error AssetNotListed(address asset);
    error AssetRebases(address asset);
    error AuthorizationExpired(bytes32 paymentId, uint64 expiry);
    error BalanceShrank(address asset, uint256 expected, uint256 actual);
    error BalanceTooLow(bytes32 accountId, address asset, uint256 balance, uint256 requested);
    error ExpiryNotAhead(uint64 expiry);
    error FeeTooHigh(uint16 basisPoints);
    error HoldTooSmall(bytes32 paymentId, uint256 held, uint256 requested);
    error NativePayoutFailed(address to, uint256 amount);
    error NotAllowed(address caller);
    error PaymentIdUsed(bytes32 merchantId, bytes32 paymentId);
    error PaymentUnknown(bytes32 merchantId, bytes32 paymentId);
    error PeriodNotDue(bytes32 subscriptionId, uint64 periodStart);
    error RecipientRefused(address to);
    error RefundTooLarge(bytes32 paymentId, uint256 limit, uint256 requested);
    error SameAccount(bytes32 accountId);
    error SubscriptionDiffers(bytes32 subscriptionId);
    error UnattributedTooLow(address asset, uint256 unattributed, uint256 requested);
    error UnexpectedPayout(address asset, uint256 expected, uint256 balanceBefore, uint256 balanceAfter);
    error UnexpectedReceipt(address asset, uint256 expected, uint256 received);
    error ValueWrong(uint256 expected, uint256 actual);
    error ZeroAmount();
    error ZeroId();
}
