#!/bin/sh
# Run once by the PostgreSQL image: the roles that the bridge and the application connect as. The
# service `setup` grants each role its rights in schema `pgherald`.
set -eu
url=$(cat /run/secrets/pgherald_postgres_url)
password=${url#*://pgherald:}
password=${password%%@*}
shop=$(cat /run/secrets/shop_password)
psql --no-psqlrc --set=ON_ERROR_STOP=1 --set=password="$password" --set=shop="$shop" \
    --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
CREATE ROLE pgherald LOGIN PASSWORD :'password';
CREATE ROLE shop LOGIN PASSWORD :'shop';
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer integer NOT NULL,
    cents integer NOT NULL
);
GRANT SELECT, INSERT ON orders TO shop;
SQL
