-- Drift: a new baseline of one feature leaves what was counted of the others, and what devices say of themselves has bounds.

-- Features whose counts so far are of a baseline that was given up, by their places in the reference, as ';2;;7;'. They are taken out when
-- the row is read.
ALTER TABLE drift_pending ADD COLUMN struck TEXT NOT NULL DEFAULT '';

-- Since when windows of a device count of one feature, if it learns that one anew.
CREATE TABLE drift_anew (
    device TEXT NOT NULL,
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    place BIGINT NOT NULL,
    not_before BIGINT NOT NULL,
    PRIMARY KEY (device, model, version, place)
);
CREATE INDEX drift_anew_by_time ON drift_anew (not_before);

-- The device that raised an alarm by itself.
ALTER TABLE drift_alarms ADD COLUMN device TEXT;
CREATE INDEX drift_alarms_by_device ON drift_alarms (device, state);

-- The device that was the first one in a stratum, and the day of that.
ALTER TABLE drift_strata ADD COLUMN device TEXT;
ALTER TABLE drift_strata ADD COLUMN first_day BIGINT NOT NULL DEFAULT 0;
