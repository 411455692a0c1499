-- Which windows of telemetry were counted, as a mark of constant size for each run of a device's agent instead of a row for
-- each window. A window that was under way while the server was brought to this version may be counted twice.
DROP TABLE telemetry_seen;
ALTER TABLE devices ADD COLUMN counted TEXT;
ALTER TABLE devices ADD COLUMN windows_counted BIGINT NOT NULL DEFAULT 0;
