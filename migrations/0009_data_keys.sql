-- Data keys of sealed payloads, wrapped by Vault's transit engine: of no use without Vault. A key's row is there before its first use, and
-- its wrap is renewed when transit's old versions are given up.
create table data_keys (
  id text primary key,
  wrapped text not null,
  version integer not null check (version > 0),
  made_at timestamptz not null default clock_timestamp(),
  rewrapped_at timestamptz
);
create index data_keys_by_version on data_keys (version, id);
