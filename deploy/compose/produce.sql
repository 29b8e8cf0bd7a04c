-- The row, its notifications and its message in the outbox commit together, or none of them does.
WITH placed AS (
    INSERT INTO orders (customer, cents)
    VALUES (1 + random() * 9, 100 + random() * 9900)
    RETURNING id, customer, cents
)
SELECT
    pg_notify('orders', json_build_object('id', id, 'customer', customer)::text),
    pg_notify('payments', json_build_object('order', id, 'customer', customer, 'cents', cents)::text),
    pgherald.send('invoices', json_build_object('order', id, 'cents', cents), customer::text)
FROM placed
\watch interval=0.2
