-- What commands show.

-- name: has_schema
-- Whether anything was ever migrated here.
SELECT to_regclass('ledger._yoyo_migration') IS NOT NULL AS found;

-- name: applied_migrations
-- Which migrations were applied.
SELECT migration_id
FROM ledger._yoyo_migration;

-- name: counts
-- The chain's promotion and what is open.
SELECT
    h.final_number,
    h.final_hash,
    h.promoted_at,
    (SELECT count(*) FROM ledger.break AS k WHERE k.chain_id = $1 AND k.resolved_at IS NULL) AS open_breaks,
    (SELECT count(*) FROM ledger.quarantine AS q WHERE q.chain_id = $1 AND q.closed_at IS NULL) AS open_quarantine
FROM ledger.chain_head AS h
WHERE h.chain_id = $1;

-- name: books
-- The books of a chain, for whoever asked for one that is not there.
SELECT DISTINCT book
FROM finance.balances
WHERE chain = $1
ORDER BY book;

-- name: balances
-- Balances for people and scripts, as finance sees them.
SELECT
    book,
    account,
    asset,
    normal_side,
    debit::TEXT AS debit,
    credit::TEXT AS credit,
    net::TEXT AS net,
    balance::TEXT AS balance,
    debit_base_units::TEXT AS debit_base_units,
    credit_base_units::TEXT AS credit_base_units,
    net_base_units::TEXT AS net_base_units,
    balance_base_units::TEXT AS balance_base_units,
    asset_code,
    as_of_block
FROM finance.balances
WHERE
    chain = $1 AND basis = $2
    AND ($3::TEXT IS NULL OR book = $3)
    AND ($4::TEXT IS NULL OR account LIKE $4)
    AND ($5::BOOLEAN OR net_base_units <> 0)
ORDER BY asset, account
LIMIT $6;
