-- Several servers on one database: who they are, which of them moves rollouts on with time, and what changed since one
-- of them last looked.

-- A server that lives raises its beats.
CREATE TABLE servers (
    id TEXT PRIMARY KEY NOT NULL,
    run TEXT NOT NULL,
    beats BIGINT NOT NULL
);

-- What one server does for all. The epoch rises with every change of hands.
CREATE TABLE leases (
    name TEXT PRIMARY KEY NOT NULL,
    holder TEXT NOT NULL,
    epoch BIGINT NOT NULL
);

-- Where a device holds its connection.
ALTER TABLE devices ADD COLUMN server TEXT;
CREATE INDEX devices_by_server ON devices (server);

-- Changes are numbered over all rows, so that one question finds the new ones; the writer has told its own devices.
ALTER TABLE desired ADD COLUMN change BIGINT NOT NULL DEFAULT 0;
ALTER TABLE desired ADD COLUMN writer TEXT NOT NULL DEFAULT '';
CREATE INDEX desired_by_change ON desired (change);
ALTER TABLE rollouts ADD COLUMN change BIGINT NOT NULL DEFAULT 0;
CREATE INDEX rollouts_by_change ON rollouts (change);
