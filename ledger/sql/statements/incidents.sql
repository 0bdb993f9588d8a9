-- Incidents: changes of the chain below its finality, and who accepted that they are booked.

-- name: accepted
-- Which of these were accepted.
SELECT incident_id
FROM ledger.incident
WHERE chain_id = $1 AND incident_id = any($2::TEXT[]);

-- name: accept
-- Accepts an incident; what was accepted before stays as it is. No row: it was.
INSERT INTO ledger.incident (chain_id, incident_id, accepted_by, reason)
VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
RETURNING accepted_at;

-- name: all_accepted
-- Every acceptance: an input of the fold, that a rebuild needs.
SELECT
    incident_id,
    accepted_at,
    accepted_by,
    reason
FROM ledger.incident
WHERE chain_id = $1;

-- name: take_over
-- An acceptance of the live books, for a rebuild. No row: it is there.
INSERT INTO ledger.incident (chain_id, incident_id, accepted_at, accepted_by, reason)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
RETURNING incident_id;

-- name: known
-- Incidents that were accepted or that a partition waits for; only $2, if it is given.
SELECT
    k.incident_id,
    i.accepted_at,
    i.accepted_by,
    i.reason,
    (
        SELECT count(*)
        FROM ledger.entry AS e
        WHERE e.chain_id = $1 AND e.incident_id = k.incident_id
    ) AS entries
FROM (
    SELECT a.incident_id
    FROM ledger.incident AS a
    WHERE a.chain_id = $1
    UNION
    SELECT s.stopped_incident
    FROM ledger.stream AS s
    WHERE s.chain_id = $1 AND s.stopped_incident IS NOT NULL
) AS k
LEFT JOIN ledger.incident AS i ON i.chain_id = $1 AND k.incident_id = i.incident_id
WHERE $2::TEXT IS NULL OR k.incident_id = $2
ORDER BY i.accepted_at NULLS LAST, k.incident_id;

-- name: waiting
-- Partitions that wait for an incident.
SELECT
    stopped_incident AS incident_id,
    topic,
    partition,
    stopped_offset,
    stopped_at,
    stopped_reason
FROM ledger.stream
WHERE chain_id = $1 AND stopped_incident IS NOT NULL
ORDER BY topic, partition;

-- name: effect
-- By how much an incident has changed each account so far: net is debit less credit.
SELECT
    a.code AS account,
    s.code AS asset,
    sum(p.debit - p.credit)::TEXT AS net_base_units
FROM ledger.entry AS e
INNER JOIN ledger.posting AS p ON e.entry_id = p.entry_id AND e.event_at = p.event_at
INNER JOIN ledger.account AS a ON p.account_id = a.account_id
INNER JOIN ledger.asset AS s ON p.asset_id = s.asset_id
WHERE e.chain_id = $1 AND e.incident_id = $2
GROUP BY a.code, s.code
HAVING sum(p.debit - p.credit) <> 0
ORDER BY s.code, a.code;
