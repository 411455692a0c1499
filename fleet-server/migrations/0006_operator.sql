-- What operators say around rollouts: named selectors, periods in which nothing moves, versions that a device keeps,
-- and why a device is in quarantine.

CREATE TABLE device_groups (
    name TEXT PRIMARY KEY NOT NULL,
    selector TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE freezes (
    id TEXT PRIMARY KEY NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    reason TEXT NOT NULL,
    selector TEXT,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

ALTER TABLE devices ADD COLUMN pins TEXT;
ALTER TABLE devices ADD COLUMN quarantine_reason TEXT;
