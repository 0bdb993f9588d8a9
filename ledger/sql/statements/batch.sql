-- One db_tx per polled batch and partition.

-- name: make_stage_entry
-- The batch's entries, before they are posted.
CREATE TEMPORARY TABLE IF NOT EXISTS stage_entry (
    entry_id BIGINT,
    event_at BIGINT,
    event_id BYTEA,
    ordinal INTEGER,
    lines SMALLINT,
    block_number BIGINT,
    block_hash BYTEA,
    tx_hash BYTEA,
    tx_index BIGINT,
    log_index BIGINT,
    address BYTEA,
    contract TEXT,
    event TEXT,
    book TEXT,
    subject TEXT,
    args JSONB,
    correlation JSONB,
    contract_seq TEXT,
    description_version BYTEA,
    late BOOLEAN,
    counts_at BIGINT,
    incident_id TEXT,
    fresh BOOLEAN
) ON COMMIT DELETE ROWS;

-- name: make_stage_transfer
-- The batch's transfers.
CREATE TEMPORARY TABLE IF NOT EXISTS stage_transfer (
    entry_id BIGINT,
    event_at BIGINT,
    line SMALLINT,
    debit_account_id BIGINT,
    credit_account_id BIGINT,
    asset_id INTEGER,
    amount NUMERIC(78, 0),
    block_number BIGINT
) ON COMMIT DELETE ROWS;

-- name: vacuum_stage
-- Temporary tables keep their oldest transaction id: without this, writes stop after weeks.
VACUUM (FREEZE) stage_entry, stage_transfer;

-- name: ensure_partitions
-- Partitions for these months, in a db_tx of their own.
SELECT ledger.ensure_partitions($1);

-- name: partition_months
-- Months that have a partition already.
SELECT to_date(right(c.relname, 7), 'YYYY_MM') AS month
FROM pg_catalog.pg_inherits AS i
INNER JOIN pg_catalog.pg_class AS c ON i.inhrelid = c.oid
WHERE i.inhparent = 'ledger.transfer'::REGCLASS;

-- name: add_assets
-- Assets that nobody listed, so that what they do is seen.
INSERT INTO ledger.asset (chain_id, address, code)
SELECT
    $1,
    u.address,
    u.code
FROM unnest($2::BYTEA[], $3::TEXT[]) AS u (address, code)
ORDER BY u.code
ON CONFLICT DO NOTHING;

-- name: asset_ids
-- Ids by code.
SELECT
    code,
    asset_id
FROM ledger.asset
WHERE code = any($1::TEXT[]);

-- name: add_accounts
-- New accounts, sorted by code, so that two writers never wait for each other in a circle.
INSERT INTO ledger.account (code, book, class, kind, subject, state, normal_side, asset_id, stream_no)
SELECT
    u.code,
    split_part(u.code, ':', 2),
    split_part(u.code, ':', 1),
    split_part(u.code, ':', 3),
    split_part(u.code, ':', 4),
    split_part(u.code, ':', 5),
    CASE split_part(u.code, ':', 1)
        WHEN 'assets' THEN 'debit' WHEN 'expenses' THEN 'debit' WHEN 'clearing' THEN 'zero' ELSE 'credit'
    END,
    u.asset_id,
    $3
FROM unnest($1::TEXT[], $2::INTEGER[]) AS u (code, asset_id)
ORDER BY u.code, u.asset_id
ON CONFLICT DO NOTHING;

-- name: account_ids
-- Ids by code and asset.
SELECT
    a.code,
    a.asset_id,
    a.account_id
FROM unnest($1::TEXT[], $2::INTEGER[]) AS u (code, asset_id)
INNER JOIN ledger.account AS a ON u.code = a.code AND u.asset_id = a.asset_id;

-- name: add_balances
-- Zero balances of new accounts.
INSERT INTO ledger.balance (account_id)
SELECT u.account_id
FROM unnest($1::BIGINT[]) AS u (account_id)
ORDER BY u.account_id
ON CONFLICT DO NOTHING;

-- name: lock_promotion_shared
-- A batch with late entries may not run beside a promotion of its chain.
SELECT pg_advisory_xact_lock_shared(hashtextextended('chainbooks.promotion.' || $1::BIGINT, 0));

-- name: final_number
-- Through which block final balances go.
SELECT final_number
FROM ledger.chain_head
WHERE chain_id = $1;

-- name: post_entries
-- The journal's entries, out of the stage.
INSERT INTO ledger.entry (
    entry_id, event_at, event_id, ordinal, lines, stream_no, batch_id, chain_id, block_number, block_hash, tx_hash,
    tx_index, log_index, address, contract, event, book, subject, args, correlation, contract_seq,
    description_version, late, accounting_date, incident_id, fresh
)
SELECT
    s.entry_id,
    to_timestamp(s.event_at),
    s.event_id,
    s.ordinal,
    s.lines,
    $1,
    $2,
    $3,
    s.block_number,
    s.block_hash,
    s.tx_hash,
    s.tx_index,
    s.log_index,
    s.address,
    s.contract,
    s.event,
    s.book,
    s.subject,
    s.args,
    s.correlation,
    s.contract_seq::NUMERIC,
    s.description_version,
    s.late,
    (to_timestamp(s.counts_at) AT TIME ZONE 'UTC')::DATE,
    s.incident_id,
    s.fresh
FROM stage_entry AS s;

-- name: post_transfers
-- Their transfers, all of them in one statement: ledger.check_transfers sees to that.
INSERT INTO ledger.transfer (entry_id, event_at, line, debit_account_id, credit_account_id, asset_id, amount)
SELECT
    s.entry_id,
    to_timestamp(s.event_at),
    s.line,
    s.debit_account_id,
    s.credit_account_id,
    s.asset_id,
    s.amount
FROM stage_transfer AS s;

-- name: add_to_balances
-- Aggregates once per account, locks balances in the order of accounts, adds. $1: blocks through it are final already.
WITH delta AS MATERIALIZED (
    SELECT
        p.account_id,
        sum(p.debit) AS debits,
        sum(p.credit) AS credits,
        coalesce(sum(p.debit) FILTER (WHERE p.block_number <= $1), 0) AS final_debits,
        coalesce(sum(p.credit) FILTER (WHERE p.block_number <= $1), 0) AS final_credits
    FROM (
        SELECT
            debit_account_id AS account_id,
            amount AS debit,
            0 AS credit,
            block_number
        FROM stage_transfer
        UNION ALL
        SELECT
            credit_account_id AS account_id,
            0 AS debit,
            amount AS credit,
            block_number
        FROM stage_transfer
    ) AS p
    GROUP BY p.account_id
),

locked AS MATERIALIZED (
    SELECT b.account_id
    FROM ledger.balance AS b
    INNER JOIN delta AS d ON b.account_id = d.account_id
    ORDER BY b.account_id
    FOR UPDATE OF b
)

UPDATE ledger.balance AS b
SET
    debits = b.debits + d.debits,
    credits = b.credits + d.credits,
    final_debits = b.final_debits + d.final_debits,
    final_credits = b.final_credits + d.final_credits
FROM delta AS d
INNER JOIN locked AS l ON d.account_id = l.account_id
WHERE b.account_id = d.account_id;

-- name: add_batch
-- The batch's row, with the record chain's hash after it.
INSERT INTO ledger.batch (
    batch_id, stream_no, epoch, first_offset, next_offset, last_seq, entries, transfers, record_chain
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: quarantine
-- A record that was not posted.
INSERT INTO ledger.quarantine (
    quarantine_id, stream_no, chain_id, record_offset, origin, code, reason, event_id, revision, block_number,
    block_hash, tx_hash, log_index, contract, event, book, record_key, record_value, record_headers
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19);

-- name: close_quarantine
-- A retraction takes back what was never posted.
UPDATE ledger.quarantine
SET closed_at = now(), closed_by = $2, closed_reason = 'retracted'
WHERE quarantine_id = $1 AND closed_at IS NULL
RETURNING quarantine_id;

-- name: originals
-- The lines of entries that are to be reversed, with codes. An entry without transfers comes once, without a line.
SELECT
    e.event_id,
    e.ordinal,
    t.line,
    d.code AS debit,
    c.code AS credit,
    s.code AS asset,
    t.amount::TEXT AS amount
FROM unnest($1::BYTEA[], $2::INTEGER[], $3::BIGINT[]) AS u (event_id, ordinal, event_at)
INNER JOIN ledger.entry AS e
    ON u.event_id = e.event_id AND u.ordinal = e.ordinal AND e.event_at = to_timestamp(u.event_at)
LEFT JOIN ledger.transfer AS t ON e.entry_id = t.entry_id AND e.event_at = t.event_at
LEFT JOIN ledger.account AS d ON t.debit_account_id = d.account_id
LEFT JOIN ledger.account AS c ON t.credit_account_id = c.account_id
LEFT JOIN ledger.asset AS s ON t.asset_id = s.asset_id
ORDER BY e.entry_id, t.line;

-- name: open_quarantine
-- Rows that a retraction would close.
SELECT
    quarantine_id,
    event_id,
    revision
FROM ledger.quarantine
WHERE event_id = any($1::BYTEA[]) AND closed_at IS NULL
ORDER BY quarantine_id;

-- name: withdrawn
-- Revisions of these events that were never posted: they were quarantined, and taken back.
SELECT
    event_id,
    revision
FROM ledger.quarantine
WHERE event_id = any($1::BYTEA[]) AND closed_reason = 'retracted';

-- name: posted_ordinals
-- Which revisions of these events are in the journal.
SELECT
    e.event_id,
    e.ordinal
FROM unnest($1::BYTEA[], $2::BIGINT[]) AS u (event_id, event_at)
INNER JOIN ledger.entry AS e ON u.event_id = e.event_id AND e.event_at = to_timestamp(u.event_at);

-- name: clearing_of_txs
-- Every line on a clearing account that these txs have made so far, in stream order; positive is inflow (credit).
SELECT
    e.block_hash,
    e.tx_hash,
    e.book,
    e.description_version,
    a.code,
    s.code AS asset,
    (p.credit - p.debit)::TEXT AS inflow
FROM unnest($1::BYTEA[], $2::BYTEA[], $3::BIGINT[], $4::TEXT[]) AS u (block_hash, tx_hash, event_at, book)
INNER JOIN ledger.entry AS e
    ON
        u.tx_hash = e.tx_hash AND u.block_hash = e.block_hash AND u.book = e.book
        AND e.event_at = to_timestamp(u.event_at)
INNER JOIN ledger.posting AS p ON e.entry_id = p.entry_id AND e.event_at = p.event_at
INNER JOIN ledger.account AS a ON p.account_id = a.account_id AND a.class = 'clearing'
INNER JOIN ledger.asset AS s ON p.asset_id = s.asset_id
ORDER BY e.entry_id, p.line;
