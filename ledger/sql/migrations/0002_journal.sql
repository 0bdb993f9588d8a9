-- depends: 0001_streams
-- Assets, accounts, balances and the journal.

CREATE TABLE ledger.asset (
    asset_id INTEGER GENERATED ALWAYS AS IDENTITY,
    chain_id BIGINT NOT NULL,
    address BYTEA NOT NULL,
    code TEXT NOT NULL,
    symbol TEXT,
    decimals SMALLINT,
    unit NUMERIC,
    listed BOOLEAN NOT NULL DEFAULT FALSE,
    CONSTRAINT asset_key PRIMARY KEY (asset_id),
    CONSTRAINT asset_code UNIQUE (code),
    CONSTRAINT asset_address UNIQUE (chain_id, address),
    CONSTRAINT asset_chain FOREIGN KEY (chain_id) REFERENCES ledger.chain (chain_id),
    CONSTRAINT asset_address_length CHECK (octet_length(address) = 20),
    CONSTRAINT asset_decimals CHECK (decimals BETWEEN 0 AND 77),
    CONSTRAINT asset_unit CHECK (unit = ('1e-' || decimals)::NUMERIC),
    CONSTRAINT asset_listed CHECK (NOT listed OR (symbol IS NOT NULL AND decimals IS NOT NULL AND unit IS NOT NULL))
);
COMMENT ON TABLE ledger.asset IS 'The native coin (zero address) and tokens. Only listed ones have decimals, a symbol and so a unit.';
COMMENT ON COLUMN ledger.asset.unit IS 'One base unit as a number: 1e-18. Views multiply by it; division would round.';

CREATE TABLE ledger.account (
    account_id BIGINT GENERATED ALWAYS AS IDENTITY,
    code TEXT NOT NULL,
    book TEXT NOT NULL,
    class TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    state TEXT NOT NULL,
    normal_side TEXT NOT NULL,
    asset_id INTEGER NOT NULL,
    stream_no SMALLINT NOT NULL,
    opened_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT account_key PRIMARY KEY (account_id),
    CONSTRAINT account_code UNIQUE (code, asset_id),
    CONSTRAINT account_asset FOREIGN KEY (asset_id) REFERENCES ledger.asset (asset_id),
    CONSTRAINT account_stream FOREIGN KEY (stream_no) REFERENCES ledger.stream (stream_no),
    CONSTRAINT account_segments CHECK (
        code = class || ':' || book || ':' || kind || ':' || subject || ':' || state
    ),
    CONSTRAINT account_normal_side CHECK (
        normal_side = CASE
            WHEN class IN ('assets', 'expenses') THEN 'debit'
            WHEN class IN ('liabilities', 'income', 'equity') THEN 'credit'
            WHEN class = 'clearing' THEN 'zero'
        END
    )
);
CREATE INDEX account_clearing ON ledger.account (asset_id, account_id) WHERE class = 'clearing';
COMMENT ON TABLE ledger.account IS 'One row per (code, asset); code is class:book:kind:subject:state. stream_no: the partition of its book.';

CREATE TABLE ledger.balance (
    account_id BIGINT NOT NULL,
    debits NUMERIC NOT NULL DEFAULT 0,
    credits NUMERIC NOT NULL DEFAULT 0,
    final_debits NUMERIC NOT NULL DEFAULT 0,
    final_credits NUMERIC NOT NULL DEFAULT 0,
    CONSTRAINT balance_key PRIMARY KEY (account_id),
    CONSTRAINT balance_account FOREIGN KEY (account_id) REFERENCES ledger.account (account_id),
    CONSTRAINT balance_positive CHECK (debits >= 0 AND credits >= 0 AND final_debits >= 0 AND final_credits >= 0)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE ledger.balance IS 'Sums of base units: latest (everything folded) and final (through chain_head). No index on amounts: updates stay HOT.';

CREATE TABLE ledger.entry (
    entry_id BIGINT NOT NULL,
    event_at TIMESTAMPTZ NOT NULL,
    event_id BYTEA NOT NULL,
    ordinal INTEGER NOT NULL,
    previous_ordinal INTEGER GENERATED ALWAYS AS (nullif(ordinal - 1, 0)) STORED,
    lines SMALLINT NOT NULL,
    stream_no SMALLINT NOT NULL,
    batch_id BIGINT NOT NULL,
    chain_id BIGINT NOT NULL,
    block_number BIGINT NOT NULL,
    block_hash BYTEA NOT NULL,
    tx_hash BYTEA NOT NULL,
    tx_index BIGINT NOT NULL,
    log_index BIGINT NOT NULL,
    address BYTEA NOT NULL,
    contract TEXT NOT NULL,
    event TEXT NOT NULL,
    book TEXT NOT NULL,
    subject TEXT NOT NULL,
    args JSONB NOT NULL,
    correlation JSONB NOT NULL,
    contract_seq NUMERIC(78, 0),
    description_version BYTEA NOT NULL,
    late BOOLEAN NOT NULL,
    accounting_date DATE NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT entry_key PRIMARY KEY (entry_id, event_at),
    CONSTRAINT entry_revision UNIQUE (event_id, ordinal, event_at),
    CONSTRAINT entry_previous FOREIGN KEY (event_id, previous_ordinal, event_at)
    REFERENCES ledger.entry (event_id, ordinal, event_at),
    CONSTRAINT entry_ordinal CHECK (ordinal >= 1),
    CONSTRAINT entry_place CHECK (block_number >= 0 AND tx_index >= 0 AND log_index >= 0),
    CONSTRAINT entry_hashes CHECK (
        octet_length(event_id) = 32 AND octet_length(block_hash) = 32 AND octet_length(tx_hash) = 32
        AND octet_length(address) = 20 AND octet_length(description_version) = 32
    )
) PARTITION BY RANGE (event_at);
CREATE INDEX entry_block ON ledger.entry (chain_id, block_number);
CREATE INDEX entry_tx ON ledger.entry (tx_hash);
COMMENT ON TABLE ledger.entry IS 'The journal: one row per revision of an event. Odd ordinals post, even ones reverse the ordinal before.';
COMMENT ON COLUMN ledger.entry.entry_id IS 'stream_no * 2^44 + stream_seq: where the record stood in its stream.';
COMMENT ON COLUMN ledger.entry.event_at IS 'Block time.';
COMMENT ON COLUMN ledger.entry.accounting_date IS 'The day it counts for.';
COMMENT ON COLUMN ledger.entry.recorded_at IS 'When this database committed it (begin of the db_tx).';

CREATE TABLE ledger.transfer (
    entry_id BIGINT NOT NULL,
    event_at TIMESTAMPTZ NOT NULL,
    line SMALLINT NOT NULL,
    debit_account_id BIGINT NOT NULL,
    credit_account_id BIGINT NOT NULL,
    asset_id INTEGER NOT NULL,
    amount NUMERIC(78, 0) NOT NULL,
    CONSTRAINT transfer_key PRIMARY KEY (entry_id, line, event_at),
    CONSTRAINT transfer_amount CHECK (amount > 0),
    CONSTRAINT transfer_sides CHECK (debit_account_id <> credit_account_id),
    CONSTRAINT transfer_line CHECK (line >= 1)
) PARTITION BY RANGE (event_at);
CREATE INDEX transfer_debit ON ledger.transfer (debit_account_id, entry_id);
CREATE INDEX transfer_credit ON ledger.transfer (credit_account_id, entry_id);
COMMENT ON TABLE ledger.transfer IS 'The unit of money movement: one debit account, one credit account, one asset, one positive amount.';

CREATE VIEW ledger.posting AS
SELECT
    t.entry_id,
    t.event_at,
    t.line,
    t.asset_id,
    t.debit_account_id AS account_id,
    t.credit_account_id AS counter_account_id,
    t.amount AS debit,
    0::NUMERIC AS credit
FROM ledger.transfer AS t
UNION ALL
SELECT
    t.entry_id,
    t.event_at,
    t.line,
    t.asset_id,
    t.credit_account_id AS account_id,
    t.debit_account_id AS counter_account_id,
    0::NUMERIC AS debit,
    t.amount AS credit
FROM ledger.transfer AS t;
COMMENT ON VIEW ledger.posting IS 'Both sides of every transfer.';
