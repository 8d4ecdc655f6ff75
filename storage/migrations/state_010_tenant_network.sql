-- What the tenant's guests may reach: "open" or "listed", then names and networks, a line each.
ALTER TABLE tenant ADD COLUMN network TEXT NOT NULL DEFAULT 'open
';
