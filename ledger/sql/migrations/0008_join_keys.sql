-- depends: 0006_incidents
-- By what later events find earlier ones: the joins of posting rules. And since rules may ask the books now, the same event
-- may be refused on one branch and posted on another: then its first entry has a later revision.

CREATE TABLE ledger.join_key (
    stream_no SMALLINT NOT NULL,
    book TEXT NOT NULL,
    contract TEXT NOT NULL,
    event TEXT NOT NULL,
    argument TEXT NOT NULL,
    value TEXT NOT NULL,
    event_id BYTEA NOT NULL,
    event_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT join_key_key PRIMARY KEY (stream_no, book, contract, event, argument, value, event_id),
    CONSTRAINT join_key_stream FOREIGN KEY (stream_no) REFERENCES ledger.stream (stream_no),
    CONSTRAINT join_key_event_id CHECK (octet_length(event_id) = 32)
);
COMMENT ON TABLE ledger.join_key IS 'Events that posting rules join, by the argument that they are looked for by. Whether one stands says ledger.entry.';
COMMENT ON COLUMN ledger.join_key.value IS 'Text of the argument''s JSON form.';

CREATE TRIGGER join_key_append_only BEFORE UPDATE OR DELETE ON ledger.join_key
FOR EACH ROW EXECUTE FUNCTION ledger.forbid_change();
CREATE TRIGGER join_key_no_truncate BEFORE TRUNCATE ON ledger.join_key
FOR EACH STATEMENT EXECUTE FUNCTION ledger.forbid_change();

GRANT SELECT, INSERT ON ledger.join_key TO chainbooks_writer;

ALTER TABLE ledger.entry ADD COLUMN fresh BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE ledger.entry DROP CONSTRAINT entry_previous;
ALTER TABLE ledger.entry DROP COLUMN previous_ordinal;
ALTER TABLE ledger.entry ADD COLUMN previous_ordinal INTEGER GENERATED ALWAYS AS (
    CASE WHEN fresh THEN NULL ELSE nullif(ordinal - 1, 0) END
) STORED;
ALTER TABLE ledger.entry ADD CONSTRAINT entry_previous FOREIGN KEY (event_id, previous_ordinal, event_at)
REFERENCES ledger.entry (event_id, ordinal, event_at);
ALTER TABLE ledger.entry ADD CONSTRAINT entry_fresh CHECK (NOT fresh OR (ordinal % 2 = 1 AND ordinal > 1));
COMMENT ON COLUMN ledger.entry.fresh IS
'Posts an event whose revisions just before were never posted: they were quarantined and taken back.';

CREATE FUNCTION ledger.check_fresh_entry() RETURNS TRIGGER
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF EXISTS (
        SELECT FROM ledger.entry AS e
        WHERE
            e.event_id = new.event_id AND e.event_at = new.event_at AND e.ordinal < new.ordinal AND e.ordinal % 2 = 1
            AND NOT EXISTS (
                SELECT FROM ledger.entry AS r
                WHERE r.event_id = e.event_id AND r.event_at = e.event_at AND r.ordinal = e.ordinal + 1
            )
    ) THEN
        RAISE EXCEPTION 'an earlier revision of this event is posted and not reversed'
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'entry_fresh', TABLE = 'entry', SCHEMA = 'ledger';
    END IF;
    RETURN NULL;
END;
$body$;
COMMENT ON FUNCTION ledger.check_fresh_entry() IS 'An event that begins anew cannot be posted twice.';

CREATE TRIGGER entry_fresh_checked AFTER INSERT ON ledger.entry
FOR EACH ROW WHEN (new.fresh) EXECUTE FUNCTION ledger.check_fresh_entry();
