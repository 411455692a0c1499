-- Experiments: two releases that are compared side by side, and the evidence.

-- The judge is empty until both arms have begun. Changes are numbered over all rows, so that one question finds the new ones.
CREATE TABLE experiments (
    id TEXT PRIMARY KEY NOT NULL,
    model TEXT NOT NULL,
    state TEXT NOT NULL,
    judge TEXT,
    phase TEXT NOT NULL,
    finished BIGINT NOT NULL,
    change BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);
CREATE INDEX experiments_by_change ON experiments (change);

-- Each look, and what came of it; nothing did of those before the comparison began.
CREATE TABLE experiment_looks (
    experiment TEXT NOT NULL,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    document TEXT NOT NULL,
    record TEXT,
    PRIMARY KEY (experiment, number)
);
