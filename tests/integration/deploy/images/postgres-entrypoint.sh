#!/bin/sh
# The part of the usual image's entry point that the stack and the tests rely on.
set -eu
if ! [ -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    initdb -D "$PGDATA" -U "${POSTGRES_USER:-postgres}" --pwfile /tmp/password --auth-host scram-sha-256 \
        --auth-local trust ${POSTGRES_INITDB_ARGS:-}
    rm /tmp/password
    echo "host all all all ${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
    if [ "${POSTGRES_DB:-postgres}" != postgres ]; then
        echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D "$PGDATA" postgres
    fi
fi
exec "$@" -c "listen_addresses=*"
