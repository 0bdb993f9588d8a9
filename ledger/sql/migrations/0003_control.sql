-- depends: 0002_journal
-- Quarantine, breaks, reconciliations and periods.

CREATE TABLE ledger.quarantine (
    quarantine_id BIGINT NOT NULL,
    stream_no SMALLINT NOT NULL,
    chain_id BIGINT NOT NULL,
    record_offset BIGINT NOT NULL,
    origin TEXT NOT NULL,
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    event_id BYTEA,
    revision INTEGER,
    block_number BIGINT,
    block_hash BYTEA,
    tx_hash BYTEA,
    log_index BIGINT,
    contract TEXT,
    event TEXT,
    book TEXT,
    record_key BYTEA,
    record_value BYTEA,
    record_headers JSONB NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    closed_at TIMESTAMPTZ,
    closed_by BIGINT,
    closed_reason TEXT,
    CONSTRAINT quarantine_key PRIMARY KEY (quarantine_id),
    CONSTRAINT quarantine_stream FOREIGN KEY (stream_no) REFERENCES ledger.stream (stream_no),
    CONSTRAINT quarantine_origin CHECK (origin IN ('body', 'rules', 'database', 'indexer')),
    CONSTRAINT quarantine_closing CHECK (num_nulls(closed_at, closed_by, closed_reason) IN (0, 3))
);
CREATE INDEX quarantine_open ON ledger.quarantine (event_id, revision) WHERE closed_at IS NULL;
COMMENT ON TABLE ledger.quarantine IS 'Records that could not be posted, raw, with the reason. quarantine_id is the entry_id that it would have had.';

CREATE TABLE ledger.break (
    break_id BIGINT GENERATED ALWAYS AS IDENTITY,
    chain_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    account_id BIGINT,
    contract BYTEA,
    book TEXT,
    asset_id INTEGER,
    expected NUMERIC,
    actual NUMERIC,
    difference NUMERIC NOT NULL,
    opened_block BIGINT,
    opened_tx BYTEA,
    checked_block BIGINT NOT NULL,
    detail TEXT NOT NULL,
    opened_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    resolved_block BIGINT,
    resolved_at TIMESTAMPTZ,
    CONSTRAINT break_key PRIMARY KEY (break_id),
    CONSTRAINT break_chain FOREIGN KEY (chain_id) REFERENCES ledger.chain (chain_id),
    CONSTRAINT break_account FOREIGN KEY (account_id) REFERENCES ledger.account (account_id),
    CONSTRAINT break_asset FOREIGN KEY (asset_id) REFERENCES ledger.asset (asset_id),
    CONSTRAINT break_kind CHECK (kind IN ('clearing', 'custody', 'claim', 'count')),
    CONSTRAINT break_resolution CHECK (num_nulls(resolved_block, resolved_at) IN (0, 2))
);
CREATE UNIQUE INDEX break_open ON ledger.break (chain_id, kind, subject, asset_id) NULLS NOT DISTINCT
WHERE resolved_at IS NULL;
COMMENT ON TABLE ledger.break IS 'A difference between two sources that must agree. Open until they agree again; nothing is ever plugged.';

CREATE TABLE ledger.reconciliation (
    reconciliation_id BIGINT GENERATED ALWAYS AS IDENTITY,
    chain_id BIGINT NOT NULL,
    block_number BIGINT NOT NULL,
    block_hash BYTEA NOT NULL,
    compared INTEGER NOT NULL,
    differing INTEGER NOT NULL,
    performed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT reconciliation_key PRIMARY KEY (reconciliation_id),
    CONSTRAINT reconciliation_chain FOREIGN KEY (chain_id) REFERENCES ledger.chain (chain_id),
    CONSTRAINT reconciliation_hash CHECK (octet_length(block_hash) = 32),
    CONSTRAINT reconciliation_counts CHECK (differing BETWEEN 0 AND compared)
);

CREATE TABLE ledger.reconciliation_item (
    reconciliation_id BIGINT NOT NULL,
    item INTEGER NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    contract BYTEA NOT NULL,
    asset_id INTEGER,
    ledger NUMERIC NOT NULL,
    onchain NUMERIC,
    difference NUMERIC GENERATED ALWAYS AS (ledger - onchain) STORED,
    problem TEXT,
    CONSTRAINT reconciliation_item_key PRIMARY KEY (reconciliation_id, item),
    CONSTRAINT reconciliation_item_run FOREIGN KEY (reconciliation_id)
    REFERENCES ledger.reconciliation (reconciliation_id),
    CONSTRAINT reconciliation_item_asset FOREIGN KEY (asset_id) REFERENCES ledger.asset (asset_id),
    CONSTRAINT reconciliation_item_kind CHECK (kind IN ('custody', 'claim', 'count')),
    CONSTRAINT reconciliation_item_answer CHECK ((onchain IS NULL) = (problem IS NOT NULL))
);
COMMENT ON TABLE ledger.reconciliation_item IS 'One comparison of the books with the chain, in base units; problem says why the chain gave no answer.';

CREATE TABLE ledger.period (
    chain_id BIGINT NOT NULL,
    period TEXT NOT NULL,
    first_day DATE NOT NULL,
    last_day DATE NOT NULL,
    CONSTRAINT period_key PRIMARY KEY (chain_id, period),
    CONSTRAINT period_chain FOREIGN KEY (chain_id) REFERENCES ledger.chain (chain_id),
    CONSTRAINT period_days CHECK (first_day <= last_day)
);

CREATE TABLE ledger.period_close (
    chain_id BIGINT NOT NULL,
    period TEXT NOT NULL,
    final_number BIGINT NOT NULL,
    final_hash BYTEA NOT NULL,
    streams JSONB NOT NULL,
    closed_by TEXT NOT NULL,
    closed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT period_close_key PRIMARY KEY (chain_id, period),
    CONSTRAINT period_close_period FOREIGN KEY (chain_id, period) REFERENCES ledger.period (chain_id, period),
    CONSTRAINT period_close_hash CHECK (octet_length(final_hash) = 32)
);
COMMENT ON TABLE ledger.period_close IS 'A closed period: the final block and the (stream, seq) vector that its reports are reproduced from.';
