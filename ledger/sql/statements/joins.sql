-- What posting rules ask of the books: earlier events by key, and whole balances.

-- name: note
-- Keys by which later events find these. An event that is posted again has its row already.
INSERT INTO ledger.join_key (stream_no, book, contract, event, argument, value, event_id, event_at)
SELECT
    $1,
    u.book,
    u.contract,
    u.event,
    u.argument,
    u.value,
    u.event_id,
    to_timestamp(u.event_at)
FROM unnest($2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::BYTEA[], $8::BIGINT[])
    AS u (book, contract, event, argument, value, event_id, event_at)
ON CONFLICT DO NOTHING;

-- name: standing
-- The events of these keys whose newest revision is odd, in the order in which they were last posted.
SELECT
    u.place,
    k.event_id,
    newest.args
FROM unnest($2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[]) WITH ORDINALITY
    AS u (book, contract, event, argument, value, place)
INNER JOIN ledger.join_key AS k
    ON
        k.stream_no = $1 AND u.book = k.book AND u.contract = k.contract AND u.event = k.event
        AND u.argument = k.argument AND u.value = k.value
CROSS JOIN LATERAL (
    SELECT
        e.entry_id,
        e.ordinal,
        e.args
    FROM ledger.entry AS e
    WHERE e.event_id = k.event_id AND e.event_at = k.event_at
    ORDER BY e.ordinal DESC
    LIMIT 1
) AS newest
WHERE newest.ordinal % 2 = 1
ORDER BY u.place, newest.entry_id;

-- name: balances
-- Debits minus credits of accounts, everything that is folded.
SELECT
    a.code,
    s.code AS asset,
    (b.debits - b.credits)::TEXT AS net
FROM unnest($1::TEXT[], $2::TEXT[]) AS u (code, asset)
INNER JOIN ledger.asset AS s ON u.asset = s.code
INNER JOIN ledger.account AS a ON u.code = a.code AND s.asset_id = a.asset_id
INNER JOIN ledger.balance AS b ON a.account_id = b.account_id;
