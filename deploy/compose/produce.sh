#!/bin/sh
# The producer: orders and payments until it is stopped.
set -eu
PGPASSWORD=$(cat /run/secrets/postgres_password)
export PGPASSWORD
exec psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --output=/dev/null \
    --file=/produce.sql "host=postgres dbname=shop user=postgres"
