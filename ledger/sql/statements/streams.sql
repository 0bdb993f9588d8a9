-- Chains, streams and the registry.

-- name: add_chain
-- Makes the chain's row; keeps what is there.
INSERT INTO ledger.chain (chain_id, name, partitions)
VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING;

-- name: chain
-- What the database knows of the chain, by id or by name.
SELECT
    chain_id,
    name,
    partitions
FROM ledger.chain
WHERE chain_id = $1 OR name = $2;

-- name: add_chain_head
-- The chain's row of final balances.
INSERT INTO ledger.chain_head (chain_id)
VALUES ($1)
ON CONFLICT DO NOTHING;

-- name: add_streams
-- Rows for all P partitions of a topic.
INSERT INTO ledger.stream (chain_id, kind, topic, partition)
SELECT
    $1,
    $2,
    $3,
    p.partition
FROM generate_series(0, $4::INTEGER - 1) AS p (partition)
ON CONFLICT DO NOTHING;

-- name: streams
-- All streams of a chain, as they are now.
SELECT
    stream_no,
    kind,
    topic,
    partition,
    epoch,
    owner,
    next_offset,
    stream_id,
    stream_seq,
    entries,
    record_chain,
    latest_number,
    latest_hash,
    latest_at,
    safe_number,
    finalized_number,
    finalized_hash,
    incomplete,
    stopped_reason,
    stopped_offset,
    stopped_incident,
    stopped_at,
    advanced_at
FROM ledger.stream
WHERE chain_id = $1
ORDER BY kind, partition;

-- name: claim
-- Takes a partition: the next epoch fences whoever had it. Waits for a db_tx of theirs that is still open. No row, when
-- we had it before ($4) and another process of our name has it now.
UPDATE ledger.stream
SET epoch = epoch + 1, owner = $3, claimed_at = now()
WHERE
    topic = $1 AND partition = $2
    AND (NOT $4::BOOLEAN OR owner IS NULL OR owner = $3 OR split_part(owner, '#', 1) <> split_part($3, '#', 1))
RETURNING
    stream_no,
    kind,
    epoch,
    next_offset,
    stream_id,
    stream_seq,
    record_chain,
    latest_number,
    latest_at,
    finalized_number;

-- name: owner
-- Who has a partition.
SELECT owner
FROM ledger.stream
WHERE topic = $1 AND partition = $2;

-- name: epoch
-- Who holds a partition now.
SELECT
    epoch,
    owner
FROM ledger.stream
WHERE stream_no = $1;

-- name: advance
-- Moves the stream's row, if it is still what we hold ($2 epoch, $3 next_offset). No row: fenced.
UPDATE ledger.stream
SET
    next_offset = $4,
    stream_id = $5,
    stream_seq = $6,
    record_chain = $7,
    entries = entries + $8,
    latest_number = coalesce($9, latest_number),
    latest_hash = coalesce($10, latest_hash),
    latest_at = coalesce(to_timestamp($11::BIGINT), latest_at),
    safe_number = coalesce($12, safe_number),
    safe_hash = coalesce($13, safe_hash),
    finalized_number = coalesce($14, finalized_number),
    finalized_hash = coalesce($15, finalized_hash),
    incomplete = coalesce($16, incomplete),
    stopped_reason = NULL,
    stopped_offset = NULL,
    stopped_incident = NULL,
    stopped_at = NULL,
    advanced_at = now()
WHERE stream_no = $1 AND epoch = $2 AND next_offset = $3
RETURNING stream_no;

-- name: stop
-- Writes down why a partition does not go on, if it is still ours. No row: fenced.
UPDATE ledger.stream
SET stopped_reason = $3, stopped_offset = $4, stopped_incident = $5, stopped_at = now()
WHERE stream_no = $1 AND epoch = $2
RETURNING stream_no;

-- name: add_registry
-- Remembers a version of a description.
INSERT INTO ledger.registry (version, contract, chain_id, document)
VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING;

-- name: registry
-- Every version of the chain's descriptions, oldest first.
SELECT
    version,
    contract,
    document
FROM ledger.registry
WHERE chain_id = $1
ORDER BY recorded_at, version;

-- name: assets
-- The chain's assets.
SELECT
    asset_id,
    code,
    symbol,
    decimals,
    listed
FROM ledger.asset
WHERE chain_id = $1;

-- name: list_asset
-- Adds an asset of the allow-list, or lists one that was seen before. Decimals of a listed asset never change.
INSERT INTO ledger.asset AS a (chain_id, address, code, symbol, decimals, unit, listed)
VALUES ($1, $2, $3, $4, $5, ('1e-' || $5::SMALLINT)::NUMERIC, TRUE)
ON CONFLICT (code) DO UPDATE
    SET symbol = excluded.symbol, decimals = excluded.decimals, unit = excluded.unit, listed = TRUE
    WHERE NOT a.listed OR (a.decimals = excluded.decimals AND a.symbol <> excluded.symbol);
