// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";
import {GatewayClaims} from "./GatewayClaims.sol";

/// @title Ledger and vault of payments in one: ERC-20 and native money of customers and merchants.
/// @notice For every asset: what is held = what is owed + `unattributed(asset)`, and no function takes from what is owed but
/// its owner's withdrawal, a refund by the merchant, or the release of a hold to its payer. Those three work while paused.
contract PaymentGateway is GatewayClaims, Pausable, ReentrancyGuard {
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");
    /// @notice May give unattributed money to an account (and take such a gift back), or sweep it.
    bytes32 public constant TREASURER_ROLE = keccak256("TREASURER_ROLE");
    /// @notice Gas for one release in `voidExpired`, so that no payer can burn the gas of the others.
    uint256 public constant VOID_GAS = 300_000;

    /// @dev A paid invoice, or what has been captured of an authorization. Invoice and payment ids share one namespace per merchant.
    struct Payment {
        address payer;
        address asset;
        bool feeReturnable;
        bytes32 feeAccount;
        uint256 captured;
        uint256 fee;
        uint256 refundedTotal;
        uint256 feeReturned;
    }

    /// @dev Fee terms are those of the day of authorization.
    struct Authorization {
        bytes32 merchantId;
        uint64 expiry; // seconds since 1970; can be captured up to and including this
        uint16 feeBasisPoints;
        uint256 authorized;
        uint256 held;
    }

    struct Subscription {
        bytes32 customerId;
        bytes32 merchantId;
        address asset;
        uint64 periodStart; // of the last charge
    }

    mapping(bytes32 merchantId => mapping(bytes32 paymentId => Payment)) private _payments;
    mapping(bytes32 paymentId => Authorization) private _authorizations;
    mapping(bytes32 subscriptionId => Subscription) private _subscriptions;
    mapping(bytes32 accountId => mapping(address asset => uint256)) private _given; // net of adjustments, never negative

    constructor(address admin) {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(OPERATOR_ROLE, admin);
        _grantRole(PAUSER_ROLE, admin);
        _grantRole(TREASURER_ROLE, admin);
    }

    /// @notice A plain send is nobody's: it adds to `unattributed(NATIVE)`, without an event.
    receive() external payable {}

    function openAccount(bytes32 accountId, address owner, uint8 kind, bytes32 externalRef)
        external
        onlyRole(OPERATOR_ROLE)
        whenNotPaused
    {
        _openAccount(accountId, owner, kind, externalRef);
    }

    /// @notice Anyone may add to any account. Native: asset is zero and `msg.value` is `amount`.
    function deposit(bytes32 accountId, address asset, uint256 amount, bytes32 ref)
        external
        payable
        nonReentrant
        whenNotPaused
    {
        _requireOpen(accountId);
        uint256 received = _pull(asset, amount);
        _credit(accountId, asset, received);
        emit Deposited(accountId, asset, msg.sender, received, balanceOf(accountId, asset), ref, _nextSeq());
    }

    /// @notice Pays a merchant from outside. Gross is what arrives. The id can be used once per merchant.
    function payInvoice(bytes32 merchantId, bytes32 invoiceId, address asset, uint256 amount)
        external
        payable
        nonReentrant
        whenNotPaused
    {
        FeeSchedule memory schedule = _feeScheduleOf(merchantId);
        Payment storage payment = _newPayment(merchantId, invoiceId, asset, schedule);
        uint256 gross = _pull(asset, amount);
        uint256 fee = _feeOf(gross, schedule.basisPoints);
        payment.captured = gross;
        payment.fee = fee;
        _creditNet(merchantId, schedule.feeAccount, asset, gross, fee);
        emit InvoicePaid(
            invoiceId,
            merchantId,
            asset,
            msg.sender,
            gross,
            fee,
            balanceOf(merchantId, asset),
            schedule.feeAccount,
            _nextSeq()
        );
    }

    /// @notice Holds money of the caller for a merchant until `expiry`. The id can be used once, over all merchants.
    function authorize(bytes32 merchantId, bytes32 paymentId, address asset, uint256 amount, uint64 expiry)
        external
        payable
        nonReentrant
        whenNotPaused
    {
        if (expiry <= block.timestamp) revert ExpiryNotAhead(expiry);
        if (_authorizations[paymentId].authorized != 0) revert PaymentIdUsed(merchantId, paymentId);
        FeeSchedule memory schedule = _feeScheduleOf(merchantId);
        _newPayment(merchantId, paymentId, asset, schedule);
        uint256 received = _pull(asset, amount);
        _authorizations[paymentId] = Authorization({
            merchantId: merchantId,
            expiry: expiry,
            feeBasisPoints: schedule.basisPoints,
            authorized: received,
            held: received
        });
        totalLiabilities[asset] += received;
        emit PaymentAuthorized(paymentId, merchantId, asset, msg.sender, received, expiry, _nextSeq());
    }

    /// @notice Gives all or a part of a hold to the merchant. By the merchant's owner or an operator, until expiry.
    function capture(bytes32 paymentId, uint256 amount) external nonReentrant whenNotPaused {
        Authorization storage authorization_ = _knownAuthorization(paymentId);
        bytes32 merchantId = authorization_.merchantId;
        _requireOwnerOrOperator(merchantId);
        if (block.timestamp > authorization_.expiry) revert AuthorizationExpired(paymentId, authorization_.expiry);
        if (amount == 0) revert ZeroAmount();
        if (amount > authorization_.held) revert HoldTooSmall(paymentId, authorization_.held, amount);
        Payment storage payment = _payments[merchantId][paymentId];
        address asset = payment.asset;
        uint256 fee = _feeOf(amount, authorization_.feeBasisPoints);
        authorization_.held -= amount;
        payment.captured += amount;
        payment.fee += fee;
        totalLiabilities[asset] -= amount;
        _creditNet(merchantId, payment.feeAccount, asset, amount, fee);
        emit PaymentCaptured(
            paymentId, merchantId, asset, amount, fee, payment.feeAccount, authorization_.held, _nextSeq()
        );
    }

    /// @notice Sends what is left of a hold back to the payer: any time by the merchant's owner or an operator, after expiry
    /// by anyone. Works while paused.
    function voidPayment(bytes32 paymentId) external nonReentrant {
        Authorization storage authorization_ = _knownAuthorization(paymentId);
        if (block.timestamp <= authorization_.expiry) _requireOwnerOrOperator(authorization_.merchantId);
        _void(paymentId);
    }

    /// @notice Voids those of the list that are expired and still hold something. A payer who cannot be paid does not stop
    /// the others: PayoutFailed, and the hold stays. Works while paused.
    function voidExpired(bytes32[] calldata paymentIds) external nonReentrant {
        for (uint256 index = 0; index < paymentIds.length; ++index) {
            bytes32 paymentId = paymentIds[index];
            Authorization storage authorization_ = _authorizations[paymentId];
            if (authorization_.held == 0 || block.timestamp <= authorization_.expiry) continue;
            try this.voidFromBatch{gas: VOID_GAS}(paymentId) {}
            catch {
                Payment storage payment = _payments[authorization_.merchantId][paymentId];
                emit PayoutFailed(paymentId, payment.asset, payment.payer, authorization_.held);
            }
        }
    }

    /// @dev One item of `voidExpired`, a call of its own so that it can fail whole. Under the guard of its caller.
    function voidFromBatch(bytes32 paymentId) external {
        if (msg.sender != address(this)) revert NotAllowed(msg.sender);
        _void(paymentId);
    }

    /// @notice Moves one period's price from customer to merchant. A subscription keeps its customer, merchant and asset;
    /// each charge is for a later period than the one before, and none for a period that has not begun.
    function chargeSubscription(
        bytes32 subscriptionId,
        bytes32 customerId,
        bytes32 merchantId,
        address asset,
        uint256 gross,
        uint64 periodStart
    ) external nonReentrant whenNotPaused onlyRole(OPERATOR_ROLE) {
        _requireListed(asset);
        if (gross == 0) revert ZeroAmount();
        _requireKind(customerId, KIND_CUSTOMER);
        _requireKind(merchantId, KIND_MERCHANT);
        _beginPeriod(subscriptionId, Subscription(customerId, merchantId, asset, periodStart));
        FeeSchedule memory schedule = _feeScheduleOf(merchantId);
        uint256 fee = _feeOf(gross, schedule.basisPoints);
        _debit(customerId, asset, gross);
        _creditNet(merchantId, schedule.feeAccount, asset, gross, fee);
        emit SubscriptionCharged(
            subscriptionId,
            customerId,
            merchantId,
            asset,
            gross,
            fee,
            schedule.feeAccount,
            periodStart,
            _nextSeq()
        );
    }

    /// @notice Sends back up to what was captured, out of the merchant's available balance and, where the fee terms say so,
    /// the fee account's. By the merchant's owner to anyone, by an operator to the payer. Works while paused.
    function refund(bytes32 merchantId, bytes32 paymentId, address to, uint256 amount) external nonReentrant {
        Payment storage payment = _payments[merchantId][paymentId];
        if (payment.payer == address(0)) revert PaymentUnknown(merchantId, paymentId);
        _requireOwnerOrOperator(merchantId);
        if (msg.sender != _ownerOf(merchantId) && to != payment.payer) revert RecipientRefused(to);
        if (amount == 0) revert ZeroAmount();
        uint256 limit = payment.captured - payment.refundedTotal;
        if (amount > limit) revert RefundTooLarge(paymentId, limit, amount);
        address asset = payment.asset;
        uint256 feeReturned = _feeToReturn(payment, amount);
        payment.refundedTotal += amount;
        payment.feeReturned += feeReturned;
        _debit(merchantId, asset, amount - feeReturned);
        if (feeReturned != 0) _debit(payment.feeAccount, asset, feeReturned);
        emit Refunded(
            paymentId,
            merchantId,
            asset,
            to,
            amount,
            feeReturned,
            payment.feeAccount,
            payment.refundedTotal,
            _nextSeq()
        );
        _pay(asset, to, amount);
    }

    function internalTransfer(bytes32 from, bytes32 to, address asset, uint256 amount, bytes32 ref)
        external
        nonReentrant
        whenNotPaused
    {
        _requireOwner(from);
        _requireOpen(to);
        if (from == to) revert SameAccount(to);
        if (amount == 0) revert ZeroAmount();
        _debit(from, asset, amount);
        _credit(to, asset, amount);
        emit InternalTransfer(from, to, asset, amount, ref, _nextSeq());
    }

    /// @notice Pays an account out, to wherever its owner says. Works while paused and after delisting.
    function withdraw(bytes32 accountId, address asset, address to, uint256 amount, bytes32 ref)
        external
        nonReentrant
    {
        _requireOwner(accountId);
        if (amount == 0) revert ZeroAmount();
        _debit(accountId, asset, amount);
        emit Withdrawn(accountId, asset, to, amount, balanceOf(accountId, asset), ref, _nextSeq());
        _pay(asset, to, amount);
    }

    /// @notice Gives unattributed money to an account, or takes back what adjustments gave to it: never more, or this would be
    /// a way to what is owed.
    function adjust(bytes32 accountId, address asset, int256 delta, bytes32 reason)
        external
        nonReentrant
        whenNotPaused
        onlyRole(TREASURER_ROLE)
    {
        _requireOpen(accountId);
        if (delta == 0) revert ZeroAmount();
        uint256 amount = SignedMath.abs(delta);
        uint256 given = _given[accountId][asset];
        if (delta > 0) {
            uint256 free = unattributed(asset);
            if (amount > free) revert UnattributedTooLow(asset, free, amount);
            _given[accountId][asset] = given + amount;
            _credit(accountId, asset, amount);
        } else {
            if (amount > given) revert AdjustmentTooLarge(accountId, asset, given, amount);
            _given[accountId][asset] = given - amount;
            _debit(accountId, asset, amount);
        }
        emit Adjusted(accountId, asset, delta, reason, _nextSeq());
    }

    /// @notice Sends money away that is nobody's. Also for tokens that are not listed. What is owed is out of reach.
    function sweepUnattributed(address asset, address to, uint256 amount)
        external
        nonReentrant
        whenNotPaused
        onlyRole(TREASURER_ROLE)
    {
        if (amount == 0) revert ZeroAmount();
        uint256 free = unattributed(asset);
        if (amount > free) revert UnattributedTooLow(asset, free, amount);
        emit UnattributedSwept(asset, to, amount, _nextSeq());
        _pay(asset, to, amount);
    }

    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    function unpause() external onlyRole(PAUSER_ROLE) {
        _unpause();
    }

    /// @notice What was taken for this invoice or authorization so far, fee included.
    function captured(bytes32 merchantId, bytes32 paymentId) external view returns (uint256) {
        return _payments[merchantId][paymentId].captured;
    }

    function refundedTotal(bytes32 merchantId, bytes32 paymentId) external view returns (uint256) {
        return _payments[merchantId][paymentId].refundedTotal;
    }

    /// @notice What is still held for this payment.
    function escrow(bytes32 paymentId) external view returns (uint256) {
        return _authorizations[paymentId].held;
    }

    /// @notice All zero where there is none.
    function authorization(bytes32 paymentId)
        external
        view
        returns (
            bytes32 merchantId,
            address asset,
            address payer,
            uint256 authorized,
            uint256 captured_,
            uint256 held,
            uint64 expiry
        )
    {
        Authorization storage authorization_ = _authorizations[paymentId];
        merchantId = authorization_.merchantId;
        Payment storage payment = _payments[merchantId][paymentId];
        return (
            merchantId,
            payment.asset,
            payment.payer,
            authorization_.authorized,
            payment.captured,
            authorization_.held,
            authorization_.expiry
        );
    }

    /// @notice What adjustments gave to an account and have not taken back.
    function adjustedNet(bytes32 accountId, address asset) external view returns (uint256) {
        return _given[accountId][asset];
    }

    function _newPayment(bytes32 merchantId, bytes32 paymentId, address asset, FeeSchedule memory schedule)
        private
        returns (Payment storage payment)
    {
        if (paymentId == 0) revert ZeroId();
        _requireKind(merchantId, KIND_MERCHANT);
        payment = _payments[merchantId][paymentId];
        if (payment.payer != address(0)) revert PaymentIdUsed(merchantId, paymentId);
        payment.payer = msg.sender;
        payment.asset = asset;
        payment.feeReturnable = schedule.returnedOnRefund;
        payment.feeAccount = schedule.feeAccount;
    }

    function _knownAuthorization(bytes32 paymentId) private view returns (Authorization storage authorization_) {
        authorization_ = _authorizations[paymentId];
        if (authorization_.authorized == 0) revert PaymentUnknown(0, paymentId);
    }

    function _void(bytes32 paymentId) private {
        Authorization storage authorization_ = _authorizations[paymentId];
        Payment storage payment = _payments[authorization_.merchantId][paymentId];
        uint256 amount = authorization_.held;
        if (amount == 0) revert HoldTooSmall(paymentId, 0, 0);
        authorization_.held = 0;
        totalLiabilities[payment.asset] -= amount;
        emit PaymentVoided(paymentId, payment.asset, payment.payer, amount, _nextSeq());
        _pay(payment.asset, payment.payer, amount);
    }

    function _beginPeriod(bytes32 subscriptionId, Subscription memory next) private {
        if (subscriptionId == 0) revert ZeroId();
        Subscription storage last = _subscriptions[subscriptionId];
        if (next.periodStart > block.timestamp) revert PeriodNotDue(subscriptionId, next.periodStart);
        if (last.customerId != 0) {
            bool same = last.customerId == next.customerId && last.merchantId == next.merchantId
                && last.asset == next.asset;
            if (!same) revert SubscriptionDiffers(subscriptionId);
            if (next.periodStart <= last.periodStart) revert PeriodNotDue(subscriptionId, next.periodStart);
        }
        _subscriptions[subscriptionId] = next;
    }

    /// @dev This refund's share of the fee: with all that came before never more than the fee, and all of it once everything is
    /// refunded. Limited by what the fee account has: an empty one does not stop a refund, the merchant bears it.
    function _feeToReturn(Payment storage payment, uint256 amount) private view returns (uint256) {
        if (!payment.feeReturnable || payment.fee == 0) return 0;
        uint256 due = Math.mulDiv(payment.fee, payment.refundedTotal + amount, payment.captured);
        if (due <= payment.feeReturned) return 0;
        return Math.min(Math.min(due - payment.feeReturned, amount), balanceOf(payment.feeAccount, payment.asset));
    }
}
