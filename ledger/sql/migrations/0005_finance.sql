-- depends: 0004_guards
-- What finance reads. debit and credit are never negative, net = debit − credit, balance is positive on the normal side
-- (of clearing: net). Every amount stands twice: in units of the asset, and in base units. Units are NULL for an asset
-- that is not listed: nobody vouched for its decimals. basis: 'latest' is everything folded, 'final' the consistent cut
-- through the last promoted block.

CREATE FUNCTION finance.hex(value BYTEA) RETURNS TEXT
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN '0x' || encode(value, 'hex');

CREATE VIEW finance.balances AS
SELECT
    c.name AS chain,
    b.basis,
    a.book,
    a.code AS account,
    a.class,
    a.kind,
    a.subject,
    a.state,
    coalesce(s.symbol, s.code) AS asset,
    a.normal_side,
    b.debits * s.unit AS debit,
    b.credits * s.unit AS credit,
    (b.debits - b.credits) * s.unit AS net,
    CASE a.normal_side WHEN 'credit' THEN b.credits - b.debits ELSE b.debits - b.credits END * s.unit AS balance,
    b.debits AS debit_base_units,
    b.credits AS credit_base_units,
    b.debits - b.credits AS net_base_units,
    CASE a.normal_side WHEN 'credit' THEN b.credits - b.debits ELSE b.debits - b.credits END AS balance_base_units,
    s.code AS asset_code,
    s.decimals,
    b.as_of_block
FROM ledger.account AS a
INNER JOIN ledger.asset AS s ON a.asset_id = s.asset_id
INNER JOIN ledger.chain AS c ON s.chain_id = c.chain_id
INNER JOIN ledger.chain_head AS h ON s.chain_id = h.chain_id
INNER JOIN ledger.stream AS st ON a.stream_no = st.stream_no
INNER JOIN ledger.balance AS l ON a.account_id = l.account_id
CROSS JOIN LATERAL (
    VALUES
    ('latest', l.debits, l.credits, st.latest_number),
    ('final', l.final_debits, l.final_credits, h.final_number)
) AS b (basis, debits, credits, as_of_block);

CREATE VIEW finance.trial_balance AS
SELECT
    b.chain,
    b.basis,
    b.book,
    b.asset,
    b.class,
    b.kind,
    b.state,
    count(*) AS accounts,
    sum(CASE WHEN b.net > 0 THEN b.net ELSE 0 * b.net END) AS debit,
    sum(CASE WHEN b.net < 0 THEN -b.net ELSE 0 * b.net END) AS credit,
    sum(b.net) AS net,
    sum(b.balance) AS balance,
    sum(greatest(b.net_base_units, 0)) AS debit_base_units,
    sum(greatest(-b.net_base_units, 0)) AS credit_base_units,
    sum(b.net_base_units) AS net_base_units,
    sum(b.balance_base_units) AS balance_base_units,
    b.asset_code,
    min(b.as_of_block) AS as_of_block
FROM finance.balances AS b
GROUP BY b.chain, b.basis, b.book, b.asset, b.asset_code, b.class, b.kind, b.state;

CREATE VIEW finance.journal AS
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
    st.latest_number AS as_of_block
FROM ledger.entry AS e
INNER JOIN ledger.chain AS c ON e.chain_id = c.chain_id
INNER JOIN ledger.chain_head AS h ON e.chain_id = h.chain_id
INNER JOIN ledger.stream AS st ON e.stream_no = st.stream_no
LEFT JOIN ledger.transfer AS t ON e.entry_id = t.entry_id AND e.event_at = t.event_at
LEFT JOIN ledger.account AS d ON t.debit_account_id = d.account_id
LEFT JOIN ledger.account AS k ON t.credit_account_id = k.account_id
LEFT JOIN ledger.asset AS s ON t.asset_id = s.asset_id;

CREATE VIEW finance.account_statement AS
SELECT
    p.chain,
    p.book,
    p.account,
    p.asset,
    p.event_at,
    p.accounting_date,
    p.action,
    p.contract,
    p.event,
    p.counter_account,
    p.debit * p.unit AS debit,
    p.credit * p.unit AS credit,
    p.running_net * p.unit AS running_net,
    CASE p.normal_side WHEN 'credit' THEN -p.running_net ELSE p.running_net END * p.unit AS running_balance,
    p.debit AS debit_base_units,
    p.credit AS credit_base_units,
    CASE p.normal_side WHEN 'credit' THEN -p.running_net ELSE p.running_net END AS running_balance_base_units,
    p.final,
    p.late,
    p.entry_id,
    p.line,
    p.block_number,
    finance.hex(p.block_hash) AS block_hash,
    finance.hex(p.tx_hash) AS tx_hash,
    p.log_index,
    p.asset_code,
    p.as_of_block
FROM (
    SELECT
        c.name AS chain,
        a.book,
        a.code AS account,
        a.normal_side,
        coalesce(s.symbol, s.code) AS asset,
        s.code AS asset_code,
        s.unit,
        o.code AS counter_account,
        p.entry_id,
        p.line,
        p.debit,
        p.credit,
        sum(p.debit - p.credit) OVER (
            PARTITION BY c.name, a.book, a.code, coalesce(s.symbol, s.code), s.code ORDER BY p.entry_id, p.line
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS running_net,
        e.event_at,
        e.accounting_date,
        CASE WHEN e.ordinal % 2 = 1 THEN 'post' ELSE 'reverse' END AS action,
        e.contract,
        e.event,
        e.block_number <= h.final_number AS final,
        e.late,
        e.block_number,
        e.block_hash,
        e.tx_hash,
        e.log_index,
        st.latest_number AS as_of_block
    FROM ledger.account AS a
    INNER JOIN ledger.asset AS s ON a.asset_id = s.asset_id
    INNER JOIN ledger.chain AS c ON s.chain_id = c.chain_id
    INNER JOIN ledger.chain_head AS h ON s.chain_id = h.chain_id
    INNER JOIN ledger.stream AS st ON a.stream_no = st.stream_no
    INNER JOIN ledger.posting AS p ON a.account_id = p.account_id
    INNER JOIN ledger.account AS o ON p.counter_account_id = o.account_id
    INNER JOIN ledger.entry AS e ON p.entry_id = e.entry_id AND p.event_at = e.event_at
) AS p;

CREATE VIEW finance.proof_of_funds AS
SELECT
    b.chain,
    b.basis,
    b.book,
    b.asset,
    sum(b.net) FILTER (WHERE b.class = 'assets') AS custody,
    -sum(b.net) FILTER (WHERE b.class = 'liabilities') AS claims,
    -sum(b.net) FILTER (WHERE b.class IN ('income', 'expenses', 'equity')) AS own_funds,
    sum(CASE b.class WHEN 'clearing' THEN b.net ELSE 0 * b.net END) AS unexplained,
    coalesce(sum(b.net_base_units) FILTER (WHERE b.class IN ('assets', 'liabilities')), 0) >= 0 AS covered,
    coalesce(sum(b.net_base_units) FILTER (WHERE b.class = 'assets'), 0) AS custody_base_units,
    coalesce(-sum(b.net_base_units) FILTER (WHERE b.class = 'liabilities'), 0) AS claims_base_units,
    coalesce(-sum(b.net_base_units) FILTER (WHERE b.class IN ('income', 'expenses', 'equity')), 0)
        AS own_funds_base_units,
    coalesce(sum(b.net_base_units) FILTER (WHERE b.class = 'clearing'), 0) AS unexplained_base_units,
    b.asset_code,
    min(b.as_of_block) AS as_of_block
FROM finance.balances AS b
GROUP BY b.chain, b.basis, b.book, b.asset, b.asset_code;

CREATE VIEW finance.breaks AS
SELECT
    c.name AS chain,
    k.break_id,
    k.kind,
    k.resolved_at IS NULL AS open,
    k.book,
    finance.hex(k.contract) AS contract,
    k.subject,
    coalesce(s.symbol, s.code) AS asset,
    k.difference * s.unit AS difference,
    k.expected * s.unit AS ledger,
    k.actual * s.unit AS onchain,
    k.difference AS difference_base_units,
    k.expected AS ledger_base_units,
    k.actual AS onchain_base_units,
    k.opened_block AS began_in_block,
    finance.hex(k.opened_tx) AS began_in_tx,
    k.detail,
    k.opened_at,
    k.resolved_block,
    k.resolved_at,
    s.code AS asset_code,
    k.checked_block AS as_of_block
FROM ledger.break AS k
INNER JOIN ledger.chain AS c ON k.chain_id = c.chain_id
LEFT JOIN ledger.asset AS s ON k.asset_id = s.asset_id;

CREATE VIEW finance.quarantine AS
SELECT
    c.name AS chain,
    q.quarantine_id,
    q.closed_at IS NULL AS open,
    q.origin,
    q.code,
    q.reason,
    q.book,
    q.contract,
    q.event,
    q.block_number,
    finance.hex(q.block_hash) AS block_hash,
    finance.hex(q.tx_hash) AS tx_hash,
    q.log_index,
    finance.hex(q.event_id) AS event_id,
    q.revision,
    st.topic,
    st.partition,
    q.record_offset,
    q.record_value,
    q.record_headers,
    q.recorded_at,
    q.closed_at,
    q.closed_reason,
    st.latest_number AS as_of_block
FROM ledger.quarantine AS q
INNER JOIN ledger.chain AS c ON q.chain_id = c.chain_id
INNER JOIN ledger.stream AS st ON q.stream_no = st.stream_no;

CREATE VIEW finance.completeness AS
SELECT
    c.name AS chain,
    'partition' AS scope,
    st.topic || '/' || st.partition AS subject,
    st.stopped_reason IS NULL AND cardinality(st.incomplete) = 0
    AND (st.kind <> 'events' OR st.latest_number IS NOT NULL) AS complete,
    st.stream_seq::NUMERIC AS last_seq,
    0::NUMERIC AS missing,
    coalesce(
        'stopped at offset ' || st.stopped_offset || ': ' || st.stopped_reason,
        'history of ' || nullif(array_to_string(st.incomplete, ', '), '') || ' is still being read',
        CASE WHEN st.kind = 'events' AND st.latest_number IS NULL THEN 'no watermark yet' END,
        'gap-free through record ' || st.stream_seq
    ) AS detail,
    st.latest_number AS latest_block,
    st.safe_number AS safe_block,
    st.finalized_number AS finalized_block,
    h.final_number AS final_block,
    coalesce(st.latest_number, h.final_number) AS as_of_block
FROM ledger.stream AS st
INNER JOIN ledger.chain AS c ON st.chain_id = c.chain_id
INNER JOIN ledger.chain_head AS h ON st.chain_id = h.chain_id
UNION ALL
SELECT
    c.name AS chain,
    'contract' AS scope,
    q.contract || ' ' || finance.hex(q.address) AS subject,
    q.missing = 0 AS complete,
    q.last_seq,
    q.missing,
    CASE
        WHEN q.missing = 0 THEN 'every number from 1 to ' || q.last_seq
        ELSE q.missing || ' missing; first gap after ' || q.first_gap
    END AS detail,
    st.latest_number AS latest_block,
    st.safe_number AS safe_block,
    st.finalized_number AS finalized_block,
    h.final_number AS final_block,
    st.latest_number AS as_of_block
FROM (
    SELECT
        n.chain_id,
        n.stream_no,
        n.contract,
        n.address,
        max(n.contract_seq) AS last_seq,
        max(n.contract_seq) - count(*) AS missing,
        CASE
            WHEN min(n.contract_seq) > 1 THEN 0
            ELSE min(n.contract_seq) FILTER (WHERE n.following IS DISTINCT FROM n.contract_seq + 1)
        END AS first_gap
    FROM (
        SELECT
            e.chain_id,
            e.stream_no,
            e.contract,
            e.address,
            e.contract_seq,
            lead(e.contract_seq) OVER (
                PARTITION BY e.chain_id, e.stream_no, e.contract, e.address ORDER BY e.contract_seq
            ) AS following
        FROM ledger.entry AS e
        WHERE e.contract_seq IS NOT NULL
        GROUP BY e.chain_id, e.stream_no, e.contract, e.address, e.contract_seq
        HAVING sum(CASE WHEN e.ordinal % 2 = 1 THEN 1 ELSE -1 END) > 0
    ) AS n
    GROUP BY n.chain_id, n.stream_no, n.contract, n.address
) AS q
INNER JOIN ledger.chain AS c ON q.chain_id = c.chain_id
INNER JOIN ledger.chain_head AS h ON q.chain_id = h.chain_id
INNER JOIN ledger.stream AS st ON q.stream_no = st.stream_no;

REVOKE ALL ON ALL TABLES IN SCHEMA finance FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA finance FROM PUBLIC;
GRANT USAGE ON SCHEMA finance TO chainbooks_reader, chainbooks_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA finance TO chainbooks_reader, chainbooks_writer;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA finance TO chainbooks_reader, chainbooks_writer;
