-- Events that programs follow: how far each of them has come, and who is told over the web.

CREATE INDEX events_by_kind ON events (kind, sequence);

-- The number of the last event that a part of the server has taken in. Rollouts hear of drift; what was found before there was
-- anybody to listen is none of theirs.
CREATE TABLE cursors (
    name TEXT PRIMARY KEY NOT NULL,
    sequence BIGINT NOT NULL
);
INSERT INTO cursors (name, sequence) SELECT 'rollouts.drift', COALESCE(MAX(sequence), 0) FROM events;
