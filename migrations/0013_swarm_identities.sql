-- Static keys that a swarm answers to, as models/static-identities.ts has them: references and public keys. No row: the swarm file's key.
create table swarm_identities (
  swarm text primary key,
  identities jsonb not null,
  version bigint not null
);
