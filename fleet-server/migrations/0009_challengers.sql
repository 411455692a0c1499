-- Releases that run beside champions: which a device shall run, how far they are there, and what came of them.

ALTER TABLE devices ADD COLUMN challengers TEXT;
ALTER TABLE devices ADD COLUMN challengers_revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN seen_challengers_revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN challenger_states TEXT;

CREATE TABLE challenger_devices (
    model TEXT NOT NULL,
    champion BIGINT NOT NULL,
    challenger BIGINT NOT NULL,
    device TEXT NOT NULL,
    agreed BIGINT NOT NULL,
    decided BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (model, champion, challenger, device)
);

CREATE TABLE challenger_sums (
    model TEXT NOT NULL,
    champion BIGINT NOT NULL,
    challenger BIGINT NOT NULL,
    figures TEXT NOT NULL,
    PRIMARY KEY (model, champion, challenger)
);
