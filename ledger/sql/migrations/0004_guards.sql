-- depends: 0003_control
-- What nobody may do, and what the writer may: append-only tables, checked transfers, partitions, grants.

CREATE FUNCTION ledger.forbid_change() RETURNS TRIGGER
LANGUAGE plpgsql
AS $body$
BEGIN
    RAISE EXCEPTION '% of %.% refused: it is append-only', tg_op, tg_table_schema, tg_table_name
    USING ERRCODE = 'restrict_violation', HINT = 'Books are corrected by further entries, never by changing old ones.';
END;
$body$;

CREATE FUNCTION ledger.check_transfers() RETURNS TRIGGER
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF EXISTS (
        SELECT FROM added AS t
        LEFT JOIN ledger.account AS d ON d.account_id = t.debit_account_id AND d.asset_id = t.asset_id
        LEFT JOIN ledger.account AS c ON c.account_id = t.credit_account_id AND c.asset_id = t.asset_id
        WHERE d.account_id IS NULL OR c.account_id IS NULL
    ) THEN
        RAISE EXCEPTION 'a transfer names an account that does not exist, or one of another asset'
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'transfer_accounts', TABLE = 'transfer', SCHEMA = 'ledger';
    END IF;
    IF EXISTS (
        SELECT FROM (
            SELECT t.entry_id, t.event_at, count(*) AS lines, max(t.line) AS last_line
            FROM added AS t
            GROUP BY t.entry_id, t.event_at
        ) AS a
        LEFT JOIN ledger.entry AS e ON e.entry_id = a.entry_id AND e.event_at = a.event_at
        WHERE e.lines IS DISTINCT FROM a.lines OR e.lines <> a.last_line
    ) THEN
        RAISE EXCEPTION 'transfers do not belong to an entry, or are not all of its lines'
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'transfer_entry', TABLE = 'transfer', SCHEMA = 'ledger';
    END IF;
    RETURN NULL;
END;
$body$;
COMMENT ON FUNCTION ledger.check_transfers() IS
'Set-wise foreign keys of transfer: the entry is there and gets all its lines in one statement; both accounts have the asset.';

CREATE TRIGGER transfer_checked AFTER INSERT ON ledger.transfer
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION ledger.check_transfers();

-- Row triggers of the journal are cloned to every partition; TRUNCATE triggers are not: ensure_partitions adds them.
CREATE TRIGGER entry_append_only BEFORE UPDATE OR DELETE ON ledger.entry
FOR EACH ROW EXECUTE FUNCTION ledger.forbid_change();
CREATE TRIGGER entry_no_truncate BEFORE TRUNCATE ON ledger.entry
FOR EACH STATEMENT EXECUTE FUNCTION ledger.forbid_change();
CREATE TRIGGER transfer_append_only BEFORE UPDATE OR DELETE ON ledger.transfer
FOR EACH ROW EXECUTE FUNCTION ledger.forbid_change();
CREATE TRIGGER transfer_no_truncate BEFORE TRUNCATE ON ledger.transfer
FOR EACH STATEMENT EXECUTE FUNCTION ledger.forbid_change();

DO $body$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'chain', 'registry', 'account', 'batch', 'chain_head_history',
        'reconciliation', 'reconciliation_item', 'period', 'period_close'
    ] LOOP
        EXECUTE format(
            'CREATE TRIGGER %I BEFORE UPDATE OR DELETE ON ledger.%I FOR EACH ROW EXECUTE FUNCTION ledger.forbid_change()',
            name || '_append_only', name
        );
    END LOOP;
    FOREACH name IN ARRAY ARRAY['stream', 'chain_head', 'asset', 'balance', 'quarantine', 'break'] LOOP
        EXECUTE format(
            'CREATE TRIGGER %I BEFORE DELETE ON ledger.%I FOR EACH ROW EXECUTE FUNCTION ledger.forbid_change()',
            name || '_no_delete', name
        );
    END LOOP;
    FOREACH name IN ARRAY ARRAY[
        'chain', 'registry', 'account', 'batch', 'chain_head_history', 'reconciliation', 'reconciliation_item',
        'period', 'period_close', 'stream', 'chain_head', 'asset', 'balance', 'quarantine', 'break'
    ] LOOP
        EXECUTE format(
            'CREATE TRIGGER %I BEFORE TRUNCATE ON ledger.%I FOR EACH STATEMENT EXECUTE FUNCTION ledger.forbid_change()',
            name || '_no_truncate', name
        );
    END LOOP;
END;
$body$;

CREATE FUNCTION ledger.ensure_partitions(months DATE[]) RETURNS INTEGER
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $body$
DECLARE
    parent TEXT;
    wanted DATE;
    month DATE;
    part TEXT;
    made INTEGER := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('chainbooks.partitions', 0));
    FOREACH wanted IN ARRAY months LOOP
        IF wanted NOT BETWEEN DATE '2009-01-01' AND DATE '2200-01-01' THEN
            RAISE EXCEPTION 'no partition for %: outside 2009 to 2200', wanted USING ERRCODE = 'datetime_field_overflow';
        END IF;
        month := date_trunc('month', wanted::TIMESTAMP)::DATE;
        FOREACH parent IN ARRAY ARRAY['entry', 'transfer'] LOOP
            part := parent || to_char(month, '_YYYY_MM');
            IF to_regclass('ledger.' || part) IS NULL THEN
                EXECUTE format(
                    'CREATE TABLE ledger.%I PARTITION OF ledger.%I FOR VALUES FROM (%L) TO (%L)',
                    part, parent, month || ' 00:00:00+00', (month + INTERVAL '1 month')::DATE || ' 00:00:00+00'
                );
                EXECUTE format(
                    'CREATE TRIGGER %I BEFORE TRUNCATE ON ledger.%I'
                    ' FOR EACH STATEMENT EXECUTE FUNCTION ledger.forbid_change()',
                    part || '_no_truncate', part
                );
                made := made + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END;
$body$;
COMMENT ON FUNCTION ledger.ensure_partitions(DATE[]) IS
'Makes the monthly partitions of the journal that are missing. Runs as the owner, in a short db_tx of its own.';

REVOKE ALL ON ALL TABLES IN SCHEMA ledger FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
GRANT USAGE ON SCHEMA ledger TO chainbooks_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO chainbooks_writer;
GRANT INSERT ON
ledger.chain, ledger.stream, ledger.registry, ledger.chain_head, ledger.chain_head_history, ledger.batch,
ledger.asset, ledger.account, ledger.balance, ledger.entry, ledger.transfer, ledger.quarantine, ledger.break,
ledger.reconciliation, ledger.reconciliation_item
TO chainbooks_writer;
GRANT UPDATE ON ledger.stream, ledger.chain_head, ledger.balance TO chainbooks_writer;
GRANT UPDATE (symbol, decimals, unit, listed) ON ledger.asset TO chainbooks_writer;
GRANT UPDATE (closed_at, closed_by, closed_reason) ON ledger.quarantine TO chainbooks_writer;
GRANT UPDATE (
    expected, actual, difference, checked_block, detail, resolved_block, resolved_at
) ON ledger.break TO chainbooks_writer;
GRANT EXECUTE ON FUNCTION ledger.ensure_partitions(DATE[]) TO chainbooks_writer;
