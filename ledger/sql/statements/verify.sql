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
