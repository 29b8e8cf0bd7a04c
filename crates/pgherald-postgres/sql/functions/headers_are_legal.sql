
BEGIN
    RETURN jsonb_typeof(headers) = 'object'
        AND octet_length(headers::text) <= 16384
        AND NOT EXISTS (
            SELECT FROM jsonb_each(headers) AS header (name, value),
                lower(name COLLATE "C") AS lowered
            WHERE jsonb_typeof(value) <> 'string'
            OR name COLLATE "C" !~ '^[-A-Za-z0-9!#$%&''*+.^_`|~]+$'
            OR lowered COLLATE "C" ~ '^(ce_|nats-|webhook-|proxy-)'
            OR lowered IN (
                'host', 'content-length', 'transfer-encoding', 'connection', 'authorization',
                'te', 'expect', 'trailer', 'upgrade', 'keep-alive'
            )
            OR lowered COLLATE "C" ~ '^ce-' AND (
                lowered COLLATE "C" !~ '^ce-[a-z0-9]{1,20}$'
                OR lowered IN (
                    'ce-id', 'ce-time', 'ce-specversion', 'ce-datacontenttype',
                    'ce-partitionkey', 'ce-data'
                )
                OR (headers ->> name) COLLATE "C" ~ E'[\\x01-\\x1f\\x7f-\\x9f]'
            )
        );
END
