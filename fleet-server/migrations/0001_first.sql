-- Only TEXT, BIGINT and DOUBLE PRECISION: what SQLite and PostgreSQL both keep as written.
-- Times are milliseconds since 1970, yes and no are 1 and 0, documents are JSON text.

CREATE TABLE devices (
    id TEXT PRIMARY KEY NOT NULL,
    certificate_serial TEXT NOT NULL,
    previous_serial TEXT,
    report_key TEXT NOT NULL,
    labels TEXT NOT NULL,
    inventory TEXT NOT NULL,
    models TEXT NOT NULL,
    boot TEXT,
    seen_generation BIGINT NOT NULL,
    enrolled_at BIGINT NOT NULL,
    last_seen BIGINT,
    connected BIGINT NOT NULL,
    quarantined BIGINT NOT NULL,
    revoked BIGINT NOT NULL,
    health TEXT,
    clock_skew_ms BIGINT
);

CREATE TABLE desired (
    device TEXT PRIMARY KEY NOT NULL,
    generation BIGINT NOT NULL,
    assignments TEXT NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used BIGINT,
    revoked BIGINT NOT NULL
);

CREATE TABLE enroll_tokens (
    id TEXT PRIMARY KEY NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    labels TEXT NOT NULL,
    uses_left BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE releases (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    manifest TEXT NOT NULL,
    manifest_digest TEXT NOT NULL,
    manifest_size_bytes BIGINT NOT NULL,
    content_digest TEXT NOT NULL,
    model_digest TEXT NOT NULL,
    gate TEXT NOT NULL,
    published_at BIGINT NOT NULL,
    published_by TEXT NOT NULL,
    PRIMARY KEY (model, version),
    UNIQUE (model, content_digest)
);
CREATE INDEX releases_by_time ON releases (published_at);

CREATE TABLE artifacts (
    digest TEXT PRIMARY KEY NOT NULL,
    size_bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE rollouts (
    id TEXT PRIMARY KEY NOT NULL,
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    phase TEXT NOT NULL,
    finished BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);
CREATE INDEX rollouts_open ON rollouts (finished, id);

CREATE TABLE reports (
    device TEXT NOT NULL,
    boot TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    document TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (device, boot, sequence)
);
CREATE INDEX reports_by_time ON reports (device, received_at);

CREATE TABLE telemetry_seen (
    device TEXT NOT NULL,
    boot TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (device, boot, sequence)
);
CREATE INDEX telemetry_seen_by_time ON telemetry_seen (received_at);

CREATE TABLE minutes (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    minute BIGINT NOT NULL,
    figures TEXT NOT NULL,
    PRIMARY KEY (model, version, minute)
);
CREATE INDEX minutes_by_time ON minutes (minute);

CREATE TABLE device_figures (
    device TEXT NOT NULL,
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    figures TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (device, model, version)
);

CREATE TABLE release_figures (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    figures TEXT NOT NULL,
    PRIMARY KEY (model, version)
);

CREATE TABLE audit (
    sequence BIGINT PRIMARY KEY NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    previous TEXT NOT NULL,
    digest TEXT NOT NULL
);

CREATE TABLE events (
    sequence BIGINT PRIMARY KEY NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX events_by_subject ON events (subject, sequence);
