-- Positions, promotion, clearing and quarantine against the journal. Parameters and columns as in verify.sql.

-- name: streams
-- What a stream's row says of its position is what entries and batches say.
WITH posted AS (
    SELECT
        e.entry_id >> 44 AS stream_no,
        count(*) AS entries,
        max(e.entry_id & ((1::BIGINT << 44) - 1)) AS last_seq
    FROM ledger.entry AS e
    WHERE e.chain_id = $1
    GROUP BY e.entry_id >> 44
),

batched AS (
    SELECT
        b.stream_no,
        sum(b.entries) AS entries,
        max(b.last_seq) AS last_seq,
        max(b.next_offset) AS next_offset
    FROM ledger.batch AS b
    GROUP BY b.stream_no
)

SELECT
    format('stream %s/%s', s.topic, s.partition) AS subject,
    format(
        'its row says %s entries through record %s, next offset %s; the journal has %s entries through record %s, the '
        'batches %s entries through record %s, next offset %s', s.entries, s.stream_seq, s.next_offset,
        coalesce(p.entries, 0), coalesce(p.last_seq, 0), coalesce(b.entries, 0), coalesce(b.last_seq, 0),
        coalesce(b.next_offset, 0)
    ) AS detail,
    count(*) OVER () AS failing
FROM ledger.stream AS s
LEFT JOIN posted AS p ON s.stream_no = p.stream_no
LEFT JOIN batched AS b ON s.stream_no = b.stream_no
WHERE
    s.chain_id = $1
    AND (
        s.entries <> coalesce(p.entries, 0) OR s.entries <> coalesce(b.entries, 0)
        OR s.stream_seq < coalesce(p.last_seq, 0) OR s.stream_seq < coalesce(b.last_seq, 0)
        OR s.next_offset < coalesce(b.next_offset, 0) OR s.next_offset < s.stream_seq
    )
ORDER BY s.topic, s.partition
LIMIT $2;

-- name: entry_places
-- An entry lies in its stream, its chain and its batch.
SELECT
    'entry ' || e.entry_id AS subject,
    format(
        'is of stream %s and chain %s by its id; its row says stream %s, chain %s, batch %s', e.entry_id >> 44,
        s.chain_id, e.stream_no, e.chain_id, e.batch_id
    ) AS detail,
    count(*) OVER () AS failing
FROM ledger.entry AS e
LEFT JOIN ledger.stream AS s ON s.stream_no = e.entry_id >> 44
LEFT JOIN ledger.batch AS b ON e.batch_id = b.batch_id
WHERE
    (e.chain_id = $1 OR s.chain_id = $1)
    AND (
        s.chain_id IS DISTINCT FROM e.chain_id OR e.stream_no <> e.entry_id >> 44 OR b.batch_id IS NULL
        OR e.entry_id NOT BETWEEN b.batch_id AND (e.entry_id >> 44 << 44 | b.last_seq)
    )
ORDER BY e.entry_id
LIMIT $2;

-- name: batch_spans
-- Batches of a stream follow each other: none begins before the one before has ended.
WITH span AS (
    SELECT
        b.batch_id,
        s.topic,
        s.partition,
        b.first_offset,
        b.last_seq,
        b.batch_id & ((1::BIGINT << 44) - 1) AS first_seq,
        lag(b.next_offset) OVER stream AS offset_before,
        lag(b.last_seq) OVER stream AS seq_before
    FROM ledger.batch AS b
    INNER JOIN ledger.stream AS s ON b.stream_no = s.stream_no
    WHERE s.chain_id = $1
    WINDOW stream AS (PARTITION BY b.stream_no ORDER BY b.batch_id)
)

SELECT
    format('stream %s/%s', p.topic, p.partition) AS subject,
    format(
        'batch %s has records %s to %s from offset %s; the one before ended with record %s before offset %s',
        p.batch_id, p.first_seq, p.last_seq, p.first_offset, p.seq_before, p.offset_before
    ) AS detail,
    count(*) OVER () AS failing
FROM span AS p
WHERE p.first_seq > p.last_seq OR p.first_offset < p.offset_before OR p.first_seq <= p.seq_before
ORDER BY p.batch_id
LIMIT $2;

-- name: promotion
-- The chain's head is where every partition has been, as its history says, on the block that the entries are of. An
-- incident that was booked since may have replaced that block.
WITH head AS (
    SELECT
        h.final_number,
        h.final_hash,
        (
            SELECT count(*) > 0
            FROM ledger.entry AS i
            WHERE i.chain_id = $1 AND i.incident_id IS NOT NULL AND i.recorded_at >= h.promoted_at
        ) AS replaced
    FROM ledger.chain_head AS h
    WHERE h.chain_id = $1
),

newest AS (
    SELECT
        y.final_number,
        y.final_hash
    FROM ledger.chain_head_history AS y
    WHERE y.chain_id = $1
    ORDER BY y.final_number DESC, y.promoted_at DESC
    LIMIT 1
),

problem AS (
    SELECT
        format('stream %s/%s', s.topic, s.partition) AS subject,
        format('is finalized through block %s, balances are final through %s', s.finalized_number, h.final_number)
            AS detail
    FROM ledger.stream AS s
    CROSS JOIN head AS h
    WHERE s.chain_id = $1 AND s.kind = 'events' AND h.final_number > coalesce(s.finalized_number, -1)
    UNION ALL
    SELECT
        format('stream %s/%s', s.topic, s.partition) AS subject,
        format('names another hash than the chain''s head for final block %s', h.final_number) AS detail
    FROM ledger.stream AS s
    INNER JOIN head AS h ON s.finalized_number = h.final_number
    WHERE
        s.chain_id = $1 AND s.kind = 'events' AND s.finalized_hash <> h.final_hash AND NOT h.replaced
    UNION ALL
    SELECT
        format('chain %s', $1::BIGINT) AS subject,
        format('is final through block %s, its history ends with %s', h.final_number, l.final_number) AS detail
    FROM head AS h
    LEFT JOIN newest AS l ON TRUE
    WHERE
        h.final_number IS DISTINCT FROM l.final_number
        OR (h.final_hash IS DISTINCT FROM l.final_hash AND NOT h.replaced)
    UNION ALL
    SELECT
        'entry ' || e.entry_id AS subject,
        format('stands in final block %s, but in one with another hash', e.block_number) AS detail
    FROM ledger.entry AS e
    INNER JOIN head AS h ON e.block_number = h.final_number
    WHERE
        e.chain_id = $1 AND e.ordinal % 2 = 1 AND e.block_hash <> h.final_hash AND NOT h.replaced
        AND NOT EXISTS (
            SELECT FROM ledger.entry AS r
            WHERE r.event_id = e.event_id AND r.ordinal = e.ordinal + 1 AND r.event_at = e.event_at
        )
)

SELECT
    p.subject,
    p.detail,
    count(*) OVER () AS failing
FROM problem AS p
ORDER BY p.subject
LIMIT $2;

-- name: clearing
-- A clearing account is zero through the last final block, or has an open break that says how much stays.
SELECT
    format('account %s %s', a.code, s.code) AS subject,
    format(
        'holds %s finally, and %s', b.final_debits - b.final_credits,
        coalesce('break ' || k.break_id || ' says ' || k.difference, 'no break is open')
    ) AS detail,
    count(*) OVER () AS failing
FROM ledger.account AS a
INNER JOIN ledger.asset AS s ON a.asset_id = s.asset_id
INNER JOIN ledger.balance AS b ON a.account_id = b.account_id
LEFT JOIN ledger.break AS k ON a.account_id = k.account_id AND k.kind = 'clearing' AND k.resolved_at IS NULL
WHERE
    s.chain_id = $1 AND a.class = 'clearing'
    AND b.final_debits - b.final_credits <> coalesce(k.difference, 0)
ORDER BY a.code, s.code
LIMIT $2;

-- name: quarantine
-- A quarantined record lies in its stream, was not posted too, and was closed by a later record.
SELECT
    'quarantine ' || q.quarantine_id AS subject,
    format(
        'record %s at offset %s of stream %s (%s): %s', q.quarantine_id & ((1::BIGINT << 44) - 1), q.record_offset,
        q.stream_no, q.code, CASE
            WHEN e.entry_id IS NOT NULL THEN 'the same record was posted as an entry'
            WHEN
                q.closed_by IS NOT NULL
                AND (c.stream_no IS NULL OR (c.stream_no = q.stream_no AND q.closed_by <= q.quarantine_id))
                THEN 'it is closed by a record that did not come later'
            ELSE format('its stream is at record %s, offset %s', s.stream_seq, s.next_offset)
        END
    ) AS detail,
    count(*) OVER () AS failing
FROM ledger.quarantine AS q
LEFT JOIN ledger.stream AS s ON q.stream_no = s.stream_no
LEFT JOIN ledger.entry AS e ON q.quarantine_id = e.entry_id
LEFT JOIN ledger.stream AS c
    ON
        q.closed_by >> 44 = c.stream_no AND q.chain_id = c.chain_id
        AND c.stream_seq >= q.closed_by & ((1::BIGINT << 44) - 1)
WHERE
    q.chain_id = $1
    AND (
        s.chain_id IS DISTINCT FROM q.chain_id OR q.stream_no <> q.quarantine_id >> 44
        OR s.stream_seq < q.quarantine_id & ((1::BIGINT << 44) - 1) OR s.next_offset <= q.record_offset
        OR e.entry_id IS NOT NULL
        OR (
            q.closed_by IS NOT NULL
            AND (c.stream_no IS NULL OR (c.stream_no = q.stream_no AND q.closed_by <= q.quarantine_id))
        )
    )
ORDER BY q.quarantine_id
LIMIT $2;

-- name: incidents
-- What changed below finality was accepted by somebody.
SELECT
    'entry ' || e.entry_id AS subject,
    format('belongs to incident %s, which nobody accepted', e.incident_id) AS detail,
    count(*) OVER () AS failing
FROM ledger.entry AS e
LEFT JOIN ledger.incident AS i ON e.chain_id = i.chain_id AND e.incident_id = i.incident_id
WHERE e.chain_id = $1 AND e.incident_id IS NOT NULL AND (i.incident_id IS NULL OR NOT e.late)
ORDER BY e.entry_id
LIMIT $2;

-- name: descriptions
-- Every description that an entry was posted with is in the registry.
SELECT
    'description 0x' || encode(v.description_version, 'hex') AS subject,
    format('%s entries of %s were posted with it, and it is not in the registry', v.entries, v.contract) AS detail,
    count(*) OVER () AS failing
FROM (
    SELECT
        e.description_version,
        min(e.contract) AS contract,
        count(*) AS entries
    FROM ledger.entry AS e
    WHERE e.chain_id = $1
    GROUP BY e.description_version
) AS v
LEFT JOIN ledger.registry AS r ON v.description_version = r.version
WHERE r.version IS NULL
ORDER BY v.description_version
LIMIT $2;
