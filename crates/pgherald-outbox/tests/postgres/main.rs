//! The outbox source on a real PostgreSQL.
