#!/bin/sh
# The producer: orders, payments and invoices until it is stopped.
set -eu
PGPASSWORD=$(cat /run/secrets/shop_password)
export PGPASSWORD
exec psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --output=/dev/null \
    --file=/produce.sql "host=postgres dbname=shop user=shop"
