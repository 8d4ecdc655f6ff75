-- What a guest's saved state is sealed with, itself sealed as a secret is; NULL: nothing was saved.
ALTER TABLE guest ADD COLUMN state_key BLOB;
