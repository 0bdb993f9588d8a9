-- The schema of a rebuild: whose it is, and its going. All of it runs as the owner, on a connection of that schema.

-- name: patience
-- How long to wait for another rebuild: one that was just killed is gone after a moment.
SET lock_timeout = '3s';

-- name: lock
-- One rebuild of a schema at a time; held until the connection ends.
SELECT pg_advisory_lock(hashtextextended('chainbooks.rebuild', 0));

-- name: is_plain
-- Whether the name needs no quotes, which reserved words do.
SELECT quote_ident($1) = $1 AS plain;

-- name: schemas
-- Which of these schemas exist, with their comments.
SELECT
    n.nspname AS name,
    obj_description(n.oid, 'pg_namespace') AS mark
FROM pg_catalog.pg_namespace AS n
WHERE n.nspname = any($1::TEXT[]);

-- name: making
-- The command that makes a schema of the owner.
SELECT format('CREATE SCHEMA %I AUTHORIZATION chainbooks_owner', $1::TEXT) AS command;

-- name: marking
-- The command that writes down whose a schema is.
SELECT format('COMMENT ON SCHEMA %I IS %L', $1::TEXT, $2::TEXT) AS command;

-- name: become_owner
-- What is made in this db_tx belongs to the owner.
SET LOCAL ROLE chainbooks_owner;

-- name: dropping
-- The command that drops a rebuild's two schemas.
SELECT format('DROP SCHEMA IF EXISTS %I, %I CASCADE', $1::TEXT, $2::TEXT) AS command;
