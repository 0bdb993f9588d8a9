-- Comparing the books with the chain at the last promoted block.

-- name: head
-- The block that final balances go through.
SELECT
    final_number,
    final_hash
FROM ledger.chain_head
WHERE chain_id = $1;

-- name: documents
-- The newest version of every description.
SELECT DISTINCT ON (contract) document
FROM ledger.registry
WHERE chain_id = $1
ORDER BY contract ASC, recorded_at DESC, version ASC;

-- name: final_balances
-- Final balances on the normal side, in base units.
SELECT
    a.code,
    a.book,
    s.code AS asset,
    CASE a.normal_side
        WHEN 'credit' THEN b.final_credits - b.final_debits ELSE b.final_debits - b.final_credits
    END::TEXT AS balance
FROM ledger.account AS a
INNER JOIN ledger.asset AS s ON a.asset_id = s.asset_id
INNER JOIN ledger.balance AS b ON a.account_id = b.account_id
WHERE s.chain_id = $1
ORDER BY a.code, s.code;

-- name: contract_seqs
-- The last contract_seq of each contract, of events that stand, through a block.
SELECT
    n.address,
    max(n.contract_seq)::TEXT AS last_seq
FROM (
    SELECT
        e.address,
        e.contract_seq
    FROM ledger.entry AS e
    WHERE e.chain_id = $1 AND e.block_number <= $2 AND e.contract_seq IS NOT NULL
    GROUP BY e.address, e.contract_seq
    HAVING sum(CASE WHEN e.ordinal % 2 = 1 THEN 1 ELSE -1 END) > 0
) AS n
GROUP BY n.address;

-- name: lock_breaks
-- Two reconciliations of a chain take turns.
SELECT pg_advisory_xact_lock(hashtextextended('chainbooks.reconciliation.' || $1::BIGINT, 0));

-- name: add_reconciliation
-- One run.
INSERT INTO ledger.reconciliation (chain_id, block_number, block_hash, compared, differing)
VALUES ($1, $2, $3, $4, $5)
RETURNING reconciliation_id;

-- name: asset_ids
-- Ids of the chain's assets by code.
SELECT
    code,
    asset_id
FROM ledger.asset
WHERE chain_id = $1;

-- name: add_item
-- One comparison.
INSERT INTO ledger.reconciliation_item (
    reconciliation_id, item, kind, subject, contract, asset_id, ledger, onchain, problem
)
VALUES ($1, $2, $3, $4, $5, $6, $7::TEXT::NUMERIC, $8::TEXT::NUMERIC, $9);

-- name: origin
-- The clearing break of the same contract and asset that is open: where a difference of claims began.
SELECT
    break_id,
    opened_block,
    opened_tx
FROM ledger.break
WHERE
    chain_id = $1 AND kind = 'clearing' AND resolved_at IS NULL
    AND contract = $2 AND asset_id IS NOT DISTINCT FROM $3
ORDER BY break_id
LIMIT 1;

-- name: hold_break
-- Opens the break of a difference, or says what it is now.
INSERT INTO ledger.break AS k (
    chain_id, kind, subject, contract, book, asset_id, expected, actual, difference, opened_block, opened_tx,
    checked_block, detail
)
VALUES (
    $1, $2, $3, $4, $5, $6, $7::TEXT::NUMERIC, $8::TEXT::NUMERIC, $7::TEXT::NUMERIC - $8::TEXT::NUMERIC, $9, $10, $11,
    $12
)
ON CONFLICT (chain_id, kind, subject, asset_id) WHERE resolved_at IS NULL DO UPDATE
    SET
        expected = excluded.expected,
        actual = excluded.actual,
        difference = excluded.difference,
        checked_block = excluded.checked_block,
        detail = excluded.detail;

-- name: resolve_break
-- The two sides agree again.
UPDATE ledger.break
SET resolved_block = $5, resolved_at = now(), checked_block = $5
WHERE
    chain_id = $1 AND kind = $2 AND subject = $3 AND asset_id IS NOT DISTINCT FROM $4 AND resolved_at IS NULL;

-- name: open_breaks
-- Whether anything has to be resolved at all.
SELECT
    kind,
    subject,
    asset_id
FROM ledger.break
WHERE chain_id = $1 AND kind <> 'clearing' AND resolved_at IS NULL;
