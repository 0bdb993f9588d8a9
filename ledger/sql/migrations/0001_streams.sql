-- depends:
-- Chains, their streams and the registry: what is folded, and how far.

CREATE TABLE ledger.chain (
    chain_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    partitions INTEGER NOT NULL,
    added_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT chain_key PRIMARY KEY (chain_id),
    CONSTRAINT chain_name UNIQUE (name),
    CONSTRAINT chain_partitions CHECK (partitions BETWEEN 1 AND 1024)
);
COMMENT ON TABLE ledger.chain IS 'One row per chain whose books are kept here. P (partitions) never changes.';

CREATE TABLE ledger.stream (
    stream_no SMALLINT GENERATED ALWAYS AS IDENTITY,
    chain_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    owner TEXT,
    claimed_at TIMESTAMPTZ,
    next_offset BIGINT NOT NULL DEFAULT 0,
    stream_id TEXT,
    stream_seq BIGINT NOT NULL DEFAULT 0,
    entries BIGINT NOT NULL DEFAULT 0,
    record_chain BYTEA NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    latest_number BIGINT,
    latest_hash BYTEA,
    latest_at TIMESTAMPTZ,
    safe_number BIGINT,
    safe_hash BYTEA,
    finalized_number BIGINT,
    finalized_hash BYTEA,
    incomplete TEXT[] NOT NULL DEFAULT '{}',
    stopped_reason TEXT,
    stopped_offset BIGINT,
    stopped_at TIMESTAMPTZ,
    advanced_at TIMESTAMPTZ,
    CONSTRAINT stream_key PRIMARY KEY (stream_no),
    CONSTRAINT stream_partition UNIQUE (chain_id, kind, partition),
    CONSTRAINT stream_topic UNIQUE (topic, partition),
    CONSTRAINT stream_chain FOREIGN KEY (chain_id) REFERENCES ledger.chain (chain_id),
    CONSTRAINT stream_kind CHECK (kind IN ('events', 'rejected')),
    CONSTRAINT stream_positions CHECK (partition >= 0 AND epoch >= 0 AND next_offset >= 0 AND stream_seq >= 0),
    CONSTRAINT stream_record_chain CHECK (octet_length(record_chain) = 32),
    CONSTRAINT stream_hashes CHECK (
        octet_length(latest_hash) = 32 AND octet_length(safe_hash) = 32 AND octet_length(finalized_hash) = 32
    ),
    CONSTRAINT stream_final_order CHECK (finalized_number <= latest_number)
) WITH (fillfactor = 50);
COMMENT ON TABLE ledger.stream IS 'One row per partition of a topic: who may fold it (epoch), what comes next, how far it is complete.';
COMMENT ON COLUMN ledger.stream.next_offset IS 'Offset of the next record to fold; everything below is in the books.';
COMMENT ON COLUMN ledger.stream.record_chain IS 'Hash over all entries of the stream in order: h = sha256(h before, canonical entry).';

CREATE TABLE ledger.registry (
    version BYTEA NOT NULL,
    contract TEXT NOT NULL,
    chain_id BIGINT NOT NULL,
    document JSONB NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT registry_key PRIMARY KEY (version),
    CONSTRAINT registry_version CHECK (octet_length(version) = 32)
);
COMMENT ON TABLE ledger.registry IS 'Every version of every description that events were decoded and posted with.';

CREATE TABLE ledger.chain_head (
    chain_id BIGINT NOT NULL,
    final_number BIGINT,
    final_hash BYTEA,
    promoted_at TIMESTAMPTZ,
    CONSTRAINT chain_head_key PRIMARY KEY (chain_id),
    CONSTRAINT chain_head_chain FOREIGN KEY (chain_id) REFERENCES ledger.chain (chain_id),
    CONSTRAINT chain_head_hash CHECK (octet_length(final_hash) = 32)
) WITH (fillfactor = 50);
COMMENT ON TABLE ledger.chain_head IS 'Through which block the final balances go: the one consistent cut over all partitions.';
COMMENT ON COLUMN ledger.chain_head.final_hash IS 'NULL while a long promotion is under way: only the block that watermarks name has a known hash.';

CREATE TABLE ledger.chain_head_history (
    chain_id BIGINT NOT NULL,
    final_number BIGINT NOT NULL,
    final_hash BYTEA,
    promoted_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT chain_head_history_key PRIMARY KEY (chain_id, final_number),
    CONSTRAINT chain_head_history_chain FOREIGN KEY (chain_id) REFERENCES ledger.chain (chain_id),
    CONSTRAINT chain_head_history_hash CHECK (octet_length(final_hash) = 32)
);

CREATE TABLE ledger.batch (
    batch_id BIGINT NOT NULL,
    stream_no SMALLINT NOT NULL,
    epoch BIGINT NOT NULL,
    first_offset BIGINT NOT NULL,
    next_offset BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    entries INTEGER NOT NULL,
    transfers INTEGER NOT NULL,
    record_chain BYTEA NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT batch_key PRIMARY KEY (batch_id),
    CONSTRAINT batch_stream FOREIGN KEY (stream_no) REFERENCES ledger.stream (stream_no),
    CONSTRAINT batch_span UNIQUE (stream_no, first_offset),
    CONSTRAINT batch_range CHECK (first_offset < next_offset AND entries >= 0 AND transfers >= 0),
    CONSTRAINT batch_record_chain CHECK (octet_length(record_chain) = 32)
);
COMMENT ON TABLE ledger.batch IS 'One row per db_tx that posted something; batch_id is the entry_id that its first record has or would have.';
