-- Drift: what devices counted of their models' inputs and outputs, and what came of it. Sums and states are packed (see
-- store/packed.rs): JSON that is compressed and written in base 64.

-- Which windows of counts came from a device, as with telemetry.
ALTER TABLE devices ADD COLUMN sketched TEXT;

-- One row: the period that windows are added to now, the last one that is checked, and when a period was closed last. `alarms` is the
-- number of the newest alarm.
CREATE TABLE drift_periods (
    id BIGINT PRIMARY KEY NOT NULL,
    current BIGINT NOT NULL,
    checked BIGINT NOT NULL,
    closed_at BIGINT NOT NULL,
    alarms BIGINT NOT NULL
);
INSERT INTO drift_periods (id, current, checked, closed_at, alarms) VALUES (1, 1, 0, 0, 0);

-- What a device counted in a period.
CREATE TABLE drift_pending (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    device TEXT NOT NULL,
    period BIGINT NOT NULL,
    sums TEXT NOT NULL,
    PRIMARY KEY (model, version, device, period)
);
CREATE INDEX drift_pending_by_period ON drift_pending (period);
CREATE INDEX drift_pending_by_device ON drift_pending (device);

-- Devices of a fleet, when their last window came, and since when windows count: what was counted before a new baseline was ordered
-- belongs to the old one.
CREATE TABLE drift_devices (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    device TEXT NOT NULL,
    last_window_at BIGINT NOT NULL,
    not_before BIGINT NOT NULL,
    PRIMARY KEY (model, version, device)
);
CREATE INDEX drift_devices_by_device ON drift_devices (device);

-- What all devices of a stratum counted in a minute, an hour or a day. The stratum of all devices has no name.
CREATE TABLE drift_sums (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    stratum TEXT NOT NULL,
    span_secs BIGINT NOT NULL,
    start_secs BIGINT NOT NULL,
    sums TEXT NOT NULL,
    PRIMARY KEY (model, version, stratum, span_secs, start_secs)
);
CREATE INDEX drift_sums_by_age ON drift_sums (span_secs, start_secs);

-- The strata that there are sums of, so that their number has a bound.
CREATE TABLE drift_strata (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    stratum TEXT NOT NULL,
    last_day BIGINT NOT NULL,
    PRIMARY KEY (model, version, stratum)
);

-- What is known of a feature after the check of a period, and how it stands in a few figures.
CREATE TABLE drift_states (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    feature TEXT NOT NULL,
    period BIGINT NOT NULL,
    status TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (model, version, feature)
);

-- What people say about baselines, until the check that carries it out.
CREATE TABLE drift_orders (
    sequence BIGINT PRIMARY KEY NOT NULL,
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    period BIGINT NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX drift_orders_by_period ON drift_orders (period);

CREATE TABLE drift_settings (
    model TEXT PRIMARY KEY NOT NULL,
    document TEXT NOT NULL
);

CREATE TABLE drift_alarms (
    id BIGINT PRIMARY KEY NOT NULL,
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    feature TEXT NOT NULL,
    state TEXT NOT NULL,
    opened_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    closed_at BIGINT,
    document TEXT NOT NULL
);
CREATE INDEX drift_alarms_by_feature ON drift_alarms (model, version, feature, state);
CREATE INDEX drift_alarms_by_state ON drift_alarms (state, opened_at);
CREATE INDEX drift_alarms_by_time ON drift_alarms (opened_at);
