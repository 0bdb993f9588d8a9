-- What the demo reads, as finance would: with the reader's role, from the finance schema only.

-- name: progress
-- Per partition of the events topic how far the ledger shows it, and through which block balances are final.
SELECT
    subject,
    coalesce(latest_block, -1) AS latest_block,
    coalesce(final_block, -1) AS final_block
FROM finance.completeness
WHERE scope = 'partition' AND subject LIKE '%.events.v1/%'
ORDER BY subject;

-- name: trial_balance
-- Per asset, book and kind of account, final.
SELECT
    asset,
    book,
    class,
    kind,
    accounts::INTEGER AS accounts,
    debit::TEXT AS debit,
    credit::TEXT AS credit
FROM finance.trial_balance
WHERE basis = 'final' AND (debit <> 0 OR credit <> 0)
ORDER BY asset, book, class, kind, state;

-- name: largest
-- The largest claims per asset, final.
SELECT
    asset,
    account,
    subject,
    balance
FROM (
    SELECT
        b.asset,
        b.account,
        b.subject,
        b.balance::TEXT AS balance,
        row_number() OVER (PARTITION BY b.asset_code ORDER BY b.balance_base_units DESC, b.account ASC) AS place
    FROM finance.balances AS b
    WHERE b.basis = 'final' AND b.class = 'liabilities' AND b.kind = 'account'
) AS ranked
WHERE place <= $1
ORDER BY asset, place;

-- name: breaks
-- Every break that is open.
SELECT
    kind,
    book,
    subject,
    asset,
    difference::TEXT AS difference,
    difference_base_units::TEXT AS difference_base_units,
    began_in_block,
    began_in_tx,
    detail
FROM finance.breaks
WHERE open
ORDER BY began_in_block ASC NULLS LAST, kind ASC, subject ASC;

-- name: quarantine
-- What could not be posted and is not closed.
SELECT
    code,
    reason,
    contract,
    event,
    block_number
FROM finance.quarantine
WHERE open
ORDER BY quarantine_id;

-- name: incomplete
-- Streams and numbered contracts that lack something.
SELECT
    subject,
    detail
FROM finance.completeness
WHERE NOT complete
ORDER BY subject;

-- name: journal
-- How much the journal holds.
SELECT
    count(DISTINCT entry_id) FILTER (WHERE action = 'post') AS posted,
    count(DISTINCT entry_id) FILTER (WHERE action = 'reverse') AS reversed,
    count(line) AS transfers
FROM finance.journal;

-- name: balances
-- Every balance in base units: latest, or final, the consistent cut.
SELECT
    account,
    asset_code,
    net_base_units::TEXT AS net
FROM finance.balances
WHERE basis = $1
ORDER BY account, asset_code;

-- name: standing_events
-- Events that are posted and not taken back.
SELECT event_id
FROM finance.journal
GROUP BY event_id
HAVING max(revision) % 2 = 1
ORDER BY event_id;

-- name: final_block
-- Through which block final balances go.
SELECT min(as_of_block) AS final_block
FROM finance.balances
WHERE basis = 'final';
