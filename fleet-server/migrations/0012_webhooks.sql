-- Events that programs follow: how far each of them has come, and who is told over the web.

CREATE INDEX events_by_kind ON events (kind, sequence);

-- The number of the last event that a part of the server has taken in. Rollouts hear of drift; what was found before there was
-- anybody to listen is none of theirs.
CREATE TABLE cursors (
    name TEXT PRIMARY KEY NOT NULL,
    sequence BIGINT NOT NULL
);
INSERT INTO cursors (name, sequence) SELECT 'rollouts.drift', COALESCE(MAX(sequence), 0) FROM events;

-- The secret is derived from the salt and a key that is in no table.
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY NOT NULL,
    url TEXT NOT NULL,
    events TEXT NOT NULL,
    salt TEXT NOT NULL,
    ca_pem TEXT,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    failing_since BIGINT,
    not_before BIGINT NOT NULL,
    last_error TEXT,
    delivered_at BIGINT,
    disabled_at BIGINT,
    disabled_why TEXT
);
