-- Ports that are published for a service: GUEST:HOST, a blank between two.
ALTER TABLE service ADD COLUMN ports TEXT NOT NULL DEFAULT '';
