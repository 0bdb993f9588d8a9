-- Final balances: one consistent cut over all partitions of a chain, moved on in bounded steps.

-- name: lock_promotion
-- One promotion of a chain at a time, and no late batch beside it.
SELECT pg_advisory_xact_lock(hashtextextended('chainbooks.promotion.' || $1::BIGINT, 0));

-- name: target
-- Where promotion may go: the lowest finalized block over all partitions; no row until every partition has one.
SELECT
    s.finalized_number AS number,
    s.finalized_hash AS hash,
    h.final_number,
    h.final_hash,
    (
        SELECT count(DISTINCT o.finalized_hash)
        FROM ledger.stream AS o
        WHERE o.chain_id = $1 AND o.kind = 'events' AND o.finalized_number = s.finalized_number
    ) AS hashes
FROM ledger.stream AS s
INNER JOIN ledger.chain_head AS h ON s.chain_id = h.chain_id
WHERE
    s.chain_id = $1 AND s.kind = 'events'
    AND NOT EXISTS (
        SELECT FROM ledger.stream AS m
        WHERE m.chain_id = $1 AND m.kind = 'events' AND m.finalized_number IS NULL
    )
ORDER BY s.finalized_number
LIMIT 1;

-- name: lock_head
-- The chain's row of final balances, ours until the end of the db_tx.
SELECT final_number
FROM ledger.chain_head
WHERE chain_id = $1
FOR UPDATE;

-- name: next_block_with_entries
-- The block in which more than $4 entries above block $2 are reached, at or below $3. No row: there are fewer.
SELECT block_number
FROM ledger.entry
WHERE chain_id = $1 AND block_number > $2 AND block_number <= $3
ORDER BY block_number
OFFSET $4 LIMIT 1;

-- name: first_block_with_entries
-- The first block with entries above $2.
SELECT min(block_number) AS block_number
FROM ledger.entry
WHERE chain_id = $1 AND block_number > $2;

-- name: promote
-- Adds the entries of blocks $2 + 1 to $3 to final balances. Returns the blocks that moved a clearing account, with
-- how much it moved (positive: debit) and its final balance before the step.
WITH moved AS MATERIALIZED (
    SELECT
        e.block_number,
        t.debit_account_id,
        t.credit_account_id,
        t.amount
    FROM ledger.entry AS e
    INNER JOIN ledger.transfer AS t ON e.entry_id = t.entry_id AND e.event_at = t.event_at
    WHERE e.chain_id = $1 AND e.block_number > $2 AND e.block_number <= $3
),

side AS (
    SELECT
        block_number,
        debit_account_id AS account_id,
        amount AS debit,
        0 AS credit
    FROM moved
    UNION ALL
    SELECT
        block_number,
        credit_account_id AS account_id,
        0 AS debit,
        amount AS credit
    FROM moved
),

delta AS MATERIALIZED (
    SELECT
        account_id,
        sum(debit) AS debits,
        sum(credit) AS credits
    FROM side
    GROUP BY account_id
),

locked AS MATERIALIZED (
    SELECT
        b.account_id,
        b.final_debits - b.final_credits AS net_before
    FROM ledger.balance AS b
    INNER JOIN delta AS d ON b.account_id = d.account_id
    ORDER BY b.account_id
    FOR UPDATE OF b
),

updated AS (
    UPDATE ledger.balance AS b
    SET final_debits = b.final_debits + d.debits, final_credits = b.final_credits + d.credits
    FROM delta AS d
    INNER JOIN locked AS l ON d.account_id = l.account_id
    WHERE b.account_id = d.account_id
)

SELECT
    s.account_id,
    s.block_number,
    sum(s.debit - s.credit)::TEXT AS net,
    l.net_before::TEXT AS net_before
FROM side AS s
INNER JOIN ledger.account AS a ON s.account_id = a.account_id AND a.class = 'clearing'
INNER JOIN locked AS l ON s.account_id = l.account_id
GROUP BY s.account_id, s.block_number, l.net_before
HAVING sum(s.debit - s.credit) <> 0
ORDER BY s.account_id, s.block_number;

-- name: move_head
-- Final balances go through this block now.
UPDATE ledger.chain_head
SET final_number = $2, final_hash = $3, promoted_at = now()
WHERE chain_id = $1;

-- name: rename_head
-- After an incident the block that final balances go through is another one with the same number. No row: known.
UPDATE ledger.chain_head
SET final_hash = $3, promoted_at = now()
WHERE chain_id = $1 AND final_number = $2 AND final_hash <> $3
RETURNING final_number;

-- name: add_head_history
-- When it was.
INSERT INTO ledger.chain_head_history (chain_id, final_number, final_hash)
VALUES ($1, $2, $3);

-- name: clearing_tx
-- The first tx of a block that left something on a clearing account.
SELECT
    e.tx_hash,
    min(e.log_index) AS log_index
FROM ledger.entry AS e
INNER JOIN ledger.posting AS p ON e.entry_id = p.entry_id AND e.event_at = p.event_at
WHERE e.chain_id = $1 AND e.block_number = $2 AND p.account_id = $3
GROUP BY e.tx_hash
HAVING sum(p.debit - p.credit) <> 0
ORDER BY log_index
LIMIT 1;

-- name: open_break
-- A clearing account is not zero from this block on. One open break per account: a further one changes nothing.
INSERT INTO ledger.break (
    chain_id, kind, subject, account_id, contract, book, asset_id, difference, opened_block, opened_tx, checked_block,
    detail
)
SELECT
    $1,
    'clearing',
    a.code,
    a.account_id,
    decode(substr(a.subject, 3), 'hex'),
    a.book,
    a.asset_id,
    $3::NUMERIC,
    $4,
    $5,
    $4,
    CASE WHEN $3::NUMERIC > 0 THEN 'outflow without a claim' ELSE 'inflow that no account was credited with' END
FROM ledger.account AS a
WHERE a.account_id = $2
ON CONFLICT DO NOTHING;

-- name: change_break
-- What stays on the account now, while the break is open.
UPDATE ledger.break
SET difference = $2::NUMERIC, checked_block = $3
WHERE account_id = $1 AND kind = 'clearing' AND resolved_at IS NULL;

-- name: resolve_break
-- The account is back at zero.
UPDATE ledger.break
SET resolved_block = $2, resolved_at = now(), checked_block = $2
WHERE account_id = $1 AND kind = 'clearing' AND resolved_at IS NULL
RETURNING break_id;

-- name: clearing_after_late
-- Clearing accounts of a late batch with what they hold finally now.
SELECT
    a.account_id,
    (b.final_debits - b.final_credits)::TEXT AS net,
    count(k.break_id) > 0 AS is_open,
    max(s.block_number) AS block_number
FROM stage_transfer AS s
INNER JOIN ledger.account AS a ON a.account_id IN (s.debit_account_id, s.credit_account_id) AND a.class = 'clearing'
INNER JOIN ledger.balance AS b ON a.account_id = b.account_id
LEFT JOIN ledger.break AS k ON a.account_id = k.account_id AND k.kind = 'clearing' AND k.resolved_at IS NULL
WHERE s.block_number <= $1
GROUP BY a.account_id, b.final_debits, b.final_credits
ORDER BY a.account_id;
