-- Clients that are out for good. A row is never removed while its swarm lives: a key that was revoked is not registered again.
create table revoked_peers (
  swarm text not null,
  public_key text not null,
  version bigint not null,
  reason text not null,
  at timestamptz not null default clock_timestamp(),
  primary key (swarm, public_key)
);
create index revoked_peers_by_version on revoked_peers (swarm, version);
