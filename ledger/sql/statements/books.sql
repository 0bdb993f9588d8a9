-- The books as they are compared and proved: whole, streaming, in canonical order. Nothing here writes.

-- name: chain_head
-- Through which block final balances go.
SELECT
    final_number,
    final_hash
FROM ledger.chain_head
WHERE chain_id = $1;

-- name: journal
-- Entries of a stream with ids above $1 and through $2, in order, with their lines.
SELECT
    e.entry_id,
    e.event_id,
    e.ordinal,
    e.chain_id,
    e.block_number,
    e.block_hash,
    extract(EPOCH FROM e.event_at)::BIGINT AS block_timestamp,
    e.tx_hash,
    e.tx_index,
    e.log_index,
    e.address,
    e.contract,
    e.event,
    e.book,
    e.subject,
    e.description_version,
    e.contract_seq::TEXT AS contract_seq,
    e.args::TEXT AS args,
    e.correlation::TEXT AS correlation,
    e.late,
    e.accounting_date::TEXT AS accounting_date,
    e.incident_id,
    l.debits,
    l.credits,
    l.assets,
    l.amounts
FROM ledger.entry AS e
CROSS JOIN LATERAL (
    SELECT
        array_agg(d.code ORDER BY t.line) AS debits,
        array_agg(c.code ORDER BY t.line) AS credits,
        array_agg(s.code ORDER BY t.line) AS assets,
        array_agg(t.amount::TEXT ORDER BY t.line) AS amounts
    FROM ledger.transfer AS t
    LEFT JOIN ledger.account AS d ON t.debit_account_id = d.account_id
    LEFT JOIN ledger.account AS c ON t.credit_account_id = c.account_id
    LEFT JOIN ledger.asset AS s ON t.asset_id = s.asset_id
    WHERE t.entry_id = e.entry_id AND t.event_at = e.event_at
) AS l
WHERE e.entry_id > $1 AND e.entry_id <= $2
ORDER BY e.entry_id;

-- name: balances_at
-- Stored balances as they were at a cut: without the postings beyond it ($2 and $3: entry ids of each stream, above and
-- through), and final ones without those of blocks above $5; $4 is the block that they go through.
WITH beyond AS MATERIALIZED (
    SELECT
        t.debit_account_id,
        t.credit_account_id,
        t.amount,
        e.block_number <= $4 AS is_final
    FROM unnest($2::BIGINT[], $3::BIGINT[]) AS u (after_id, through_id)
    INNER JOIN ledger.entry AS e ON u.after_id < e.entry_id AND u.through_id >= e.entry_id
    INNER JOIN ledger.transfer AS t ON e.entry_id = t.entry_id AND e.event_at = t.event_at
),

above AS MATERIALIZED (
    SELECT
        t.debit_account_id,
        t.credit_account_id,
        t.amount
    FROM ledger.entry AS e
    INNER JOIN ledger.transfer AS t ON e.entry_id = t.entry_id AND e.event_at = t.event_at
    WHERE
        e.chain_id = $1 AND e.block_number > $5 AND e.block_number <= $4
        AND NOT EXISTS (
            SELECT FROM unnest($2::BIGINT[], $3::BIGINT[]) AS u (after_id, through_id)
            WHERE u.after_id < e.entry_id AND u.through_id >= e.entry_id
        )
),

side AS (
    SELECT
        debit_account_id AS account_id,
        amount AS debits,
        0 AS credits,
        CASE WHEN is_final THEN amount ELSE 0 END AS final_debits,
        0 AS final_credits
    FROM beyond
    UNION ALL
    SELECT
        credit_account_id AS account_id,
        0 AS debits,
        amount AS credits,
        0 AS final_debits,
        CASE WHEN is_final THEN amount ELSE 0 END AS final_credits
    FROM beyond
    UNION ALL
    SELECT
        debit_account_id AS account_id,
        0 AS debits,
        0 AS credits,
        amount AS final_debits,
        0 AS final_credits
    FROM above
    UNION ALL
    SELECT
        credit_account_id AS account_id,
        0 AS debits,
        0 AS credits,
        0 AS final_debits,
        amount AS final_credits
    FROM above
),

off AS MATERIALIZED (
    SELECT
        account_id,
        sum(debits) AS debits,
        sum(credits) AS credits,
        sum(final_debits) AS final_debits,
        sum(final_credits) AS final_credits
    FROM side
    GROUP BY account_id
)

SELECT
    a.code,
    s.code AS asset,
    (coalesce(b.debits, 0) - coalesce(o.debits, 0))::TEXT AS debits,
    (coalesce(b.credits, 0) - coalesce(o.credits, 0))::TEXT AS credits,
    (coalesce(b.final_debits, 0) - coalesce(o.final_debits, 0))::TEXT AS final_debits,
    (coalesce(b.final_credits, 0) - coalesce(o.final_credits, 0))::TEXT AS final_credits
FROM ledger.account AS a
INNER JOIN ledger.asset AS s ON a.asset_id = s.asset_id
LEFT JOIN ledger.balance AS b ON a.account_id = b.account_id
LEFT JOIN off AS o ON a.account_id = o.account_id
WHERE s.chain_id = $1
ORDER BY a.code COLLATE "C", s.code COLLATE "C";
