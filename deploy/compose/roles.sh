#!/bin/sh
# Run once by the PostgreSQL image: the role that the bridge connects as. It needs LISTEN, which
# every role may, and nothing else.
set -eu
url=$(cat /run/secrets/pgherald_postgres_url)
password=${url#*://pgherald:}
password=${password%%@*}
psql --no-psqlrc --set=ON_ERROR_STOP=1 --set=password="$password" \
    --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
CREATE ROLE pgherald LOGIN PASSWORD :'password';
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer integer NOT NULL,
    cents integer NOT NULL
);
SQL
