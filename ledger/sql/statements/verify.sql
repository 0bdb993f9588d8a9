-- The books against themselves. Each statement returns what fails: a subject, what is wrong with it, and how many rows
-- fail in all, at most $2 of them. Parameters: $1 chain_id, $2 rows shown. Nothing here writes, and nothing trusts a
-- constraint or a trigger: a superuser can go around them.

-- name: sizes
-- How much there is to look at.
SELECT
    (SELECT count(*) FROM ledger.entry AS e WHERE e.chain_id = $1) AS entries,
    (SELECT coalesce(sum(e.lines), 0)::BIGINT FROM ledger.entry AS e WHERE e.chain_id = $1) AS transfers,
    (SELECT count(*) FROM ledger.entry AS e WHERE e.chain_id = $1 AND e.ordinal % 2 = 0) AS contras,
    (
        SELECT count(*) FROM ledger.account AS a
        INNER JOIN ledger.asset AS s ON a.asset_id = s.asset_id
        WHERE s.chain_id = $1
    ) AS accounts,
    (
        SELECT count(*) FROM ledger.account AS a
        INNER JOIN ledger.asset AS s ON a.asset_id = s.asset_id
        WHERE s.chain_id = $1 AND a.class = 'clearing'
    ) AS clearing,
    (SELECT count(*) FROM ledger.asset AS s WHERE s.chain_id = $1) AS assets,
    (SELECT count(*) FROM ledger.stream AS s WHERE s.chain_id = $1) AS streams,
    (
        SELECT count(*) FROM ledger.batch AS b
        INNER JOIN ledger.stream AS s ON b.stream_no = s.stream_no
        WHERE s.chain_id = $1
    ) AS batches,
    (SELECT count(*) FROM ledger.quarantine AS q WHERE q.chain_id = $1) AS quarantined,
    (SELECT count(*) FROM ledger.incident AS i WHERE i.chain_id = $1) AS incidents,
    (SELECT count(*) FROM ledger.registry AS r WHERE r.chain_id = $1) AS descriptions,
    (SELECT h.final_number FROM ledger.chain_head AS h WHERE h.chain_id = $1) AS final_number;

-- name: batches
-- The batches of a stream, in order, with the record chain after each.
SELECT
    batch_id,
    last_seq,
    entries,
    record_chain
FROM ledger.batch
WHERE stream_no = $1
ORDER BY batch_id;

-- name: lines
-- Every entry has lines 1 to n, and every transfer an entry.
WITH counted AS (
    SELECT
        t.entry_id,
        t.event_at,
        count(*) AS lines,
        max(t.line) AS last_line
    FROM ledger.transfer AS t
    GROUP BY t.entry_id, t.event_at
)

SELECT
    'entry ' || coalesce(e.entry_id, c.entry_id) AS subject,
    CASE
        WHEN e.entry_id IS NULL THEN format('%s transfers belong to no entry', c.lines)
        ELSE format('says %s lines, the journal has %s, the last one is %s', e.lines, coalesce(c.lines, 0), c.last_line)
    END AS detail,
    count(*) OVER () AS failing
FROM ledger.entry AS e
FULL JOIN counted AS c ON e.entry_id = c.entry_id AND e.event_at = c.event_at
INNER JOIN ledger.stream AS s ON s.stream_no = coalesce(e.entry_id, c.entry_id) >> 44 AND s.chain_id = $1
WHERE e.entry_id IS NULL OR e.lines <> coalesce(c.lines, 0) OR c.last_line <> c.lines
ORDER BY coalesce(e.entry_id, c.entry_id)
LIMIT $2;

-- name: line_accounts
-- Both sides of a transfer are accounts of its asset, the asset is of the chain, the amount is positive.
SELECT
    format('entry %s line %s', t.entry_id, t.line) AS subject,
    format(
        '%s of asset %s: debit %s, credit %s', t.amount, coalesce(s.code, t.asset_id || ' (unknown)'),
        coalesce(d.code, t.debit_account_id || ' (unknown)'), coalesce(c.code, t.credit_account_id || ' (unknown)')
    ) AS detail,
    count(*) OVER () AS failing
FROM ledger.transfer AS t
INNER JOIN ledger.stream AS st ON st.stream_no = t.entry_id >> 44 AND st.chain_id = $1
LEFT JOIN ledger.account AS d ON t.debit_account_id = d.account_id
LEFT JOIN ledger.account AS c ON t.credit_account_id = c.account_id
LEFT JOIN ledger.asset AS s ON t.asset_id = s.asset_id
WHERE
    d.asset_id IS DISTINCT FROM t.asset_id OR c.asset_id IS DISTINCT FROM t.asset_id
    OR s.chain_id IS DISTINCT FROM $1 OR t.amount <= 0 OR t.debit_account_id = t.credit_account_id
ORDER BY t.entry_id, t.line
LIMIT $2;

-- name: trial
-- Debits equal credits per asset, over stored balances, latest and final.
SELECT
    'asset ' || s.code AS subject,
    format(
        'debits %s, credits %s; final debits %s, final credits %s', sum(b.debits), sum(b.credits), sum(b.final_debits),
        sum(b.final_credits)
    ) AS detail,
    count(*) OVER () AS failing
FROM ledger.balance AS b
INNER JOIN ledger.account AS a ON b.account_id = a.account_id
INNER JOIN ledger.asset AS s ON a.asset_id = s.asset_id
WHERE s.chain_id = $1
GROUP BY s.code
HAVING sum(b.debits) <> sum(b.credits) OR sum(b.final_debits) <> sum(b.final_credits)
ORDER BY s.code
LIMIT $2;

-- name: balances
-- Stored balances are the sums of all postings; final ones of those in blocks through the chain's head, late ones too.
WITH head AS (
    SELECT coalesce(max(h.final_number), -1) AS final_number
    FROM ledger.chain_head AS h
    WHERE h.chain_id = $1
),

sums AS MATERIALIZED (
    SELECT
        p.account_id,
        sum(p.debit) AS debits,
        sum(p.credit) AS credits,
        coalesce(sum(p.debit) FILTER (WHERE e.block_number <= h.final_number), 0) AS final_debits,
        coalesce(sum(p.credit) FILTER (WHERE e.block_number <= h.final_number), 0) AS final_credits
    FROM ledger.entry AS e
    CROSS JOIN head AS h
    INNER JOIN ledger.transfer AS t ON e.entry_id = t.entry_id AND e.event_at = t.event_at
    CROSS JOIN LATERAL (
        VALUES (t.debit_account_id, t.amount, 0), (t.credit_account_id, 0, t.amount)
    ) AS p (account_id, debit, credit)
    WHERE e.chain_id = $1
    GROUP BY p.account_id
),

compared AS (
    SELECT
        a.code,
        s.code AS asset,
        b.debits,
        b.credits,
        b.final_debits,
        b.final_credits,
        coalesce(p.debits, 0) AS posted_debits,
        coalesce(p.credits, 0) AS posted_credits,
        coalesce(p.final_debits, 0) AS posted_final_debits,
        coalesce(p.final_credits, 0) AS posted_final_credits
    FROM ledger.account AS a
    INNER JOIN ledger.asset AS s ON a.asset_id = s.asset_id
    LEFT JOIN ledger.balance AS b ON a.account_id = b.account_id
    LEFT JOIN sums AS p ON a.account_id = p.account_id
    WHERE s.chain_id = $1
)

SELECT
    format('account %s %s', c.code, c.asset) AS subject,
    CASE
        WHEN c.debits = c.posted_debits AND c.credits = c.posted_credits THEN format(
            'final balance has debits %s, credits %s; the postings through the last final block give %s, %s',
            c.final_debits, c.final_credits, c.posted_final_debits, c.posted_final_credits
        )
        ELSE format(
            'balance has debits %s, credits %s; the postings give %s, %s', coalesce(c.debits::TEXT, 'no row'),
            coalesce(c.credits::TEXT, 'no row'), c.posted_debits, c.posted_credits
        )
    END AS detail,
    count(*) OVER () AS failing
FROM compared AS c
WHERE
    c.debits IS DISTINCT FROM c.posted_debits OR c.credits IS DISTINCT FROM c.posted_credits
    OR c.final_debits IS DISTINCT FROM c.posted_final_debits OR c.final_credits IS DISTINCT FROM c.posted_final_credits
ORDER BY c.code, c.asset
LIMIT $2;

-- name: ordinals
-- The revisions of an event are 1, 2, 3 … in the order of the journal, and all of the same log. What was quarantined and
-- taken back has no entries: after it an event begins anew with an odd revision.
WITH revision AS (
    SELECT
        e.entry_id,
        e.event_id,
        e.ordinal,
        e.fresh,
        format(
            '%s %s %s %s %s %s %s %s %s', e.block_hash, e.tx_hash, e.log_index, e.address, e.contract, e.event, e.book,
            e.event_at, e.stream_no
        ) AS place
    FROM ledger.entry AS e
    WHERE e.chain_id = $1
),

numbered AS (
    SELECT
        r.entry_id,
        r.event_id,
        r.ordinal,
        r.fresh,
        r.place,
        coalesce(lag(r.ordinal) OVER event, 0) AS last,
        coalesce(lag(r.place) OVER event, r.place) AS before
    FROM revision AS r
    WINDOW event AS (PARTITION BY r.event_id ORDER BY r.entry_id)
),

judged AS (
    SELECT
        n.entry_id,
        n.event_id,
        n.before,
        n.place,
        CASE
            WHEN NOT n.fresh AND n.ordinal <> n.last + 1
                THEN format('entry %s is revision %s, expected %s', n.entry_id, n.ordinal, n.last + 1)
            WHEN n.fresh AND (n.last % 2 = 1 OR n.ordinal <= n.last)
                THEN format('entry %s begins anew with revision %s after revision %s', n.entry_id, n.ordinal, n.last)
            WHEN n.fresh AND NOT EXISTS (
                SELECT FROM ledger.quarantine AS q
                WHERE q.event_id = n.event_id AND q.revision = n.ordinal - 2 AND q.closed_reason = 'retracted'
            )
                THEN format('entry %s begins anew, but revision %s was not taken back', n.entry_id, n.ordinal - 2)
        END AS fault
    FROM numbered AS n
)

SELECT
    format('event 0x%s', encode(j.event_id, 'hex')) AS subject,
    coalesce(j.fault, format('entry %s names another log than the revision before', j.entry_id)) AS detail,
    count(*) OVER () AS failing
FROM judged AS j
WHERE j.fault IS NOT NULL OR j.before <> j.place
ORDER BY j.entry_id
LIMIT $2;

-- name: contras
-- A contra entry has the lines of the revision before, debit and credit exchanged.
WITH pair AS (
    SELECT
        c.entry_id,
        c.event_id,
        c.ordinal,
        (
            SELECT
                string_agg(
                    format('%s %s %s %s %s', t.line, t.credit_account_id, t.debit_account_id, t.asset_id, t.amount), ', '
                    ORDER BY t.line
                )
            FROM ledger.transfer AS t
            WHERE t.entry_id = c.entry_id AND t.event_at = c.event_at
        ) AS mirrored,
        (
            SELECT
                string_agg(
                    format('%s %s %s %s %s', t.line, t.debit_account_id, t.credit_account_id, t.asset_id, t.amount), ', '
                    ORDER BY t.line
                )
            FROM ledger.transfer AS t
            WHERE t.entry_id = o.entry_id AND t.event_at = o.event_at
        ) AS original,
        o.entry_id AS original_id
    FROM ledger.entry AS c
    LEFT JOIN ledger.entry AS o ON c.event_id = o.event_id AND c.ordinal - 1 = o.ordinal AND c.event_at = o.event_at
    WHERE c.chain_id = $1 AND c.ordinal % 2 = 0
)

SELECT
    format('event 0x%s', encode(p.event_id, 'hex')) AS subject,
    CASE
        WHEN p.original_id IS NULL
            THEN format('entry %s reverses revision %s, which is not there', p.entry_id, p.ordinal - 1)
        ELSE format('entry %s does not mirror entry %s', p.entry_id, p.original_id)
    END AS detail,
    count(*) OVER () AS failing
FROM pair AS p
WHERE p.original_id IS NULL OR p.mirrored IS DISTINCT FROM p.original
ORDER BY p.entry_id
LIMIT $2;

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
        h.promoted_at
    FROM ledger.chain_head AS h
    WHERE h.chain_id = $1
),

newest AS (
    SELECT
        y.final_number,
        y.final_hash
    FROM ledger.chain_head_history AS y
    WHERE y.chain_id = $1
    ORDER BY y.final_number DESC
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
        s.chain_id = $1 AND s.kind = 'events' AND s.finalized_hash <> h.final_hash
        AND NOT EXISTS (
            SELECT FROM ledger.entry AS i
            WHERE i.chain_id = $1 AND i.incident_id IS NOT NULL AND i.recorded_at >= h.promoted_at
        )
    UNION ALL
    SELECT
        format('chain %s', $1::BIGINT) AS subject,
        format('is final through block %s, its history ends with %s', h.final_number, l.final_number) AS detail
    FROM head AS h
    LEFT JOIN newest AS l ON TRUE
    WHERE (h.final_number, h.final_hash) IS DISTINCT FROM (l.final_number, l.final_hash)
    UNION ALL
    SELECT
        'entry ' || e.entry_id AS subject,
        format('stands in final block %s, but in one with another hash', e.block_number) AS detail
    FROM ledger.entry AS e
    INNER JOIN head AS h ON e.block_number = h.final_number
    WHERE
        e.chain_id = $1 AND e.ordinal % 2 = 1 AND e.incident_id IS NULL AND e.block_hash <> h.final_hash
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
