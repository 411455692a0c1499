-- What verdicts on metrics are made of, and what they were made on.

-- What devices did with the versions of a model since the beginning, of those that did something in an interval.
CREATE TABLE tallies (
    model TEXT NOT NULL,
    number BIGINT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (model, number)
);
CREATE INDEX tallies_by_number ON tallies (number);

-- The metrics of a wave against devices that were not asked: by which rules, and what was learned.
CREATE TABLE comparisons (
    rollout TEXT NOT NULL,
    wave BIGINT NOT NULL,
    opening TEXT NOT NULL,
    judge TEXT NOT NULL,
    opened_at BIGINT NOT NULL,
    PRIMARY KEY (rollout, wave)
);

-- The evidence: each look, and what came of it; nothing did of those before the wave began.
CREATE TABLE looks (
    rollout TEXT NOT NULL,
    wave BIGINT NOT NULL,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    document TEXT NOT NULL,
    record TEXT,
    PRIMARY KEY (rollout, wave, number)
);
