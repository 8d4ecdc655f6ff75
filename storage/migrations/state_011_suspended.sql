-- A stopped workspace whose guest's memory is kept beside its disk: state 'suspended' outside.
ALTER TABLE workspace ADD COLUMN suspended INTEGER NOT NULL DEFAULT 0;
