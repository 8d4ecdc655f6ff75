-- An idempotent request is a row before it acts (status 0: not answered), known by a number that
-- the audit rows of all it does carry too; content_hash is of a raw body, once it was whole.
ALTER TABLE idempotency ADD COLUMN intent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE idempotency ADD COLUMN content_hash BLOB
    CHECK (content_hash IS NULL OR length(content_hash) = 32);
ALTER TABLE audit ADD COLUMN intent INTEGER NOT NULL DEFAULT 0;
CREATE INDEX audit_of_intent ON audit (intent) WHERE intent <> 0;
