-- depends: 0005_finance
-- Incidents: the chain has changed below its finality. Nothing of that is booked until somebody accepts it, by name and
-- with a reason; then contra entries and what stands in their place are booked into the open period.

CREATE TABLE ledger.incident (
    chain_id BIGINT NOT NULL,
    incident_id TEXT NOT NULL,
    accepted_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    accepted_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    CONSTRAINT incident_key PRIMARY KEY (chain_id, incident_id),
    CONSTRAINT incident_chain FOREIGN KEY (chain_id) REFERENCES ledger.chain (chain_id),
    CONSTRAINT incident_name CHECK (incident_id ~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$'),
    CONSTRAINT incident_words CHECK (trim(accepted_by) <> '' AND trim(reason) <> '')
);
COMMENT ON TABLE ledger.incident IS
'Changes below finality that somebody accepted. Acceptance is an input of the fold: a rebuild needs it, too.';

CREATE TRIGGER incident_append_only BEFORE UPDATE OR DELETE ON ledger.incident
FOR EACH ROW EXECUTE FUNCTION ledger.forbid_change();
CREATE TRIGGER incident_no_truncate BEFORE TRUNCATE ON ledger.incident
FOR EACH STATEMENT EXECUTE FUNCTION ledger.forbid_change();

ALTER TABLE ledger.entry ADD COLUMN incident_id TEXT;
ALTER TABLE ledger.entry ADD CONSTRAINT entry_incident FOREIGN KEY (chain_id, incident_id)
REFERENCES ledger.incident (chain_id, incident_id);
ALTER TABLE ledger.entry ADD CONSTRAINT entry_incident_late CHECK (incident_id IS NULL OR late);
CREATE INDEX entry_of_incident ON ledger.entry (chain_id, incident_id) WHERE incident_id IS NOT NULL;
COMMENT ON COLUMN ledger.entry.incident_id IS 'The accepted incident that it belongs to. It was final otherwise before.';
COMMENT ON COLUMN ledger.entry.accounting_date IS
'The day it counts for: that of its block, or for an incident the day of the latest block that was known before it.';

ALTER TABLE ledger.stream ADD COLUMN stopped_incident TEXT;
COMMENT ON COLUMN ledger.stream.stopped_incident IS 'The partition waits until this incident is accepted.';

CREATE OR REPLACE VIEW finance.journal AS
SELECT
    c.name AS chain,
    e.book,
    e.entry_id,
    t.line,
    CASE WHEN e.ordinal % 2 = 1 THEN 'post' ELSE 'reverse' END AS action,
    e.contract,
    e.event,
    e.subject,
    d.code AS debit_account,
    k.code AS credit_account,
    coalesce(s.symbol, s.code) AS asset,
    t.amount * s.unit AS amount,
    t.amount AS amount_base_units,
    s.code AS asset_code,
    e.event_at,
    e.accounting_date,
    e.recorded_at,
    e.late,
    e.block_number <= h.final_number AS final,
    e.block_number,
    finance.hex(e.block_hash) AS block_hash,
    finance.hex(e.tx_hash) AS tx_hash,
    e.log_index,
    finance.hex(e.address) AS address,
    finance.hex(e.event_id) AS event_id,
    e.ordinal AS revision,
    e.contract_seq,
    e.args,
    e.correlation,
    finance.hex(e.description_version) AS description_version,
    st.latest_number AS as_of_block,
    e.incident_id
FROM ledger.entry AS e
INNER JOIN ledger.chain AS c ON e.chain_id = c.chain_id
INNER JOIN ledger.chain_head AS h ON e.chain_id = h.chain_id
INNER JOIN ledger.stream AS st ON e.stream_no = st.stream_no
LEFT JOIN ledger.transfer AS t ON e.entry_id = t.entry_id AND e.event_at = t.event_at
LEFT JOIN ledger.account AS d ON t.debit_account_id = d.account_id
LEFT JOIN ledger.account AS k ON t.credit_account_id = k.account_id
LEFT JOIN ledger.asset AS s ON t.asset_id = s.asset_id;

CREATE VIEW finance.incidents AS
SELECT
    c.name AS chain,
    i.incident_id,
    i.state,
    i.accepted_at,
    i.accepted_by,
    i.reason,
    i.detail,
    j.entry_id,
    j.line,
    j.action,
    j.book,
    j.contract,
    j.event,
    j.subject,
    j.debit_account,
    j.credit_account,
    j.asset,
    j.amount,
    j.amount_base_units,
    j.asset_code,
    j.accounting_date,
    j.event_at,
    j.recorded_at,
    j.block_number,
    j.block_hash,
    j.tx_hash,
    j.event_id,
    j.revision,
    coalesce(j.as_of_block, h.final_number) AS as_of_block
FROM (
    SELECT
        a.chain_id,
        a.incident_id,
        'accepted' AS state,
        a.accepted_at,
        a.accepted_by,
        a.reason,
        NULL AS detail
    FROM ledger.incident AS a
    UNION ALL
    SELECT
        s.chain_id,
        s.stopped_incident AS incident_id,
        'waiting' AS state,
        NULL AS accepted_at,
        NULL AS accepted_by,
        NULL AS reason,
        min(s.stopped_reason) AS detail
    FROM ledger.stream AS s
    WHERE
        s.stopped_incident IS NOT NULL
        AND NOT EXISTS (
            SELECT FROM ledger.incident AS a
            WHERE a.chain_id = s.chain_id AND a.incident_id = s.stopped_incident
        )
    GROUP BY s.chain_id, s.stopped_incident
) AS i
INNER JOIN ledger.chain AS c ON i.chain_id = c.chain_id
INNER JOIN ledger.chain_head AS h ON i.chain_id = h.chain_id
LEFT JOIN finance.journal AS j ON c.name = j.chain AND i.incident_id = j.incident_id;
COMMENT ON VIEW finance.incidents IS
'What was final and has changed: each line that an accepted incident booked, with who accepted it and why; one row without a line for an incident that waits for somebody.';
COMMENT ON COLUMN finance.incidents.accounting_date IS
'The open period: never the period that was reported before the incident.';

REVOKE ALL ON ledger.incident, finance.incidents FROM PUBLIC;
GRANT SELECT, INSERT ON ledger.incident TO chainbooks_writer;
GRANT SELECT ON finance.incidents TO chainbooks_reader, chainbooks_writer;
