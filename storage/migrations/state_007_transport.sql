-- What a machine is to be reached by, where its creator demanded one.
ALTER TABLE workspace ADD COLUMN transport TEXT;
