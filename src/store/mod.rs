//! Append-only log plus current table on SQLite. Knows keys and bytes, not kinds.
