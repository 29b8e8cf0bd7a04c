#!/bin/sh
# What the image of postgres does at its first start: a cluster, a database, and the scripts of
# /docker-entrypoint-initdb.d with a server that listens on a socket only.
set -eu
[ $# -eq 0 ] || exec "$@"
run() { setpriv --reuid=999 --regid=999 --clear-groups "$@"; }
PGDATA=/var/lib/postgresql/18/docker
export PGDATA
mkdir -p "$PGDATA" && chown -R 999:999 /var/lib/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    cp "$POSTGRES_PASSWORD_FILE" /tmp/password && chown 999 /tmp/password
    run initdb --username=postgres --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 >/dev/null
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    run pg_ctl --wait --silent --options="-c listen_addresses= -c unix_socket_directories=/tmp" start
    export PGHOST=/tmp POSTGRES_USER=postgres
    createdb --username=postgres "$POSTGRES_DB"
    for script in /docker-entrypoint-initdb.d/*.sh; do sh "$script"; done
    run pg_ctl --wait --silent --mode=fast stop
fi
exec setpriv --reuid=999 --regid=999 --clear-groups postgres -c "listen_addresses=*" -c unix_socket_directories=/tmp
