-- What devices may spend on their links, and how their telemetry gets here.

ALTER TABLE devices ADD COLUMN limits TEXT;
ALTER TABLE devices ADD COLUMN limits_revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN delivery TEXT;
ALTER TABLE devices ADD COLUMN seen_limits_revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN windows_lost BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN windows_waiting BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN telemetry_bytes_today BIGINT NOT NULL DEFAULT 0;
