-- The signed repository of servers that share a database: one row, which only grows newer. A server that is alone keeps
-- it in its data directory.

CREATE TABLE repository (
    id BIGINT PRIMARY KEY NOT NULL,
    change BIGINT NOT NULL,
    document TEXT NOT NULL
);
