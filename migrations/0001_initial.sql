-- The swarm file in force.
create table swarms (
  name text primary key,
  spec jsonb not null,
  updated_at timestamptz not null default now()
);

-- One counter a swarm. Whoever changes peers or sessions holds its row until the commit, so versions become visible in order and
-- a reader that has seen version N has seen everything up to N.
create table session_versions (
  swarm text primary key,
  version bigint not null
);

-- Clients that may connect. The preshared key itself lies in Vault.
create table peers (
  swarm text not null,
  public_key text not null,
  inner_addresses jsonb not null,
  preshared_path text,
  preshared_version bigint,
  version bigint not null,
  primary key (swarm, public_key)
);
create index peers_by_version on peers (swarm, version);

-- The source of truth of who holds which session. A session that ended stays as a removed row, so that catch-up tells of its end.
create table sessions (
  swarm text not null,
  public_key text not null,
  endpoint text not null,
  inner_addresses jsonb not null,
  preshared_path text,
  preshared_version bigint,
  outer_address text not null,
  last_handshake_ms bigint not null,
  rx_bytes bigint not null,
  tx_bytes bigint not null,
  shadow text,
  removed boolean not null default false,
  version bigint not null,
  updated_at_ms bigint not null,
  primary key (swarm, public_key)
);
create index sessions_by_version on sessions (swarm, version);

-- Telemetry grows in the order of time, which BRIN is made for.
create table heartbeats (
  at timestamptz not null,
  swarm text not null,
  endpoint text not null,
  sequence bigint not null,
  started_at timestamptz not null,
  cpu_share real,
  cpu_pressure real,
  memory_share real,
  tunnel_up boolean not null,
  sessions integer not null,
  rx_bytes bigint not null,
  tx_bytes bigint not null,
  rx_drops bigint not null,
  tx_drops bigint not null
);
create index heartbeats_by_time on heartbeats using brin (at);

create table latest_heartbeats (
  swarm text not null,
  endpoint text not null,
  at timestamptz not null,
  body jsonb not null,
  primary key (swarm, endpoint)
);

-- The audit trail: written once, never changed.
create table audit (
  seq bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  operation text not null,
  action text not null,
  swarm text not null,
  endpoint text,
  outcome text not null check (outcome in ('done', 'already-done', 'refused', 'failed')),
  text text not null,
  workflow_id text,
  run_id text,
  details jsonb not null,
  unique (operation, action)
);
create index audit_by_swarm on audit (swarm, seq);
create index audit_by_workflow on audit (workflow_id, seq);

create function refuse_audit_change() returns trigger language plpgsql as $$
begin
  raise exception 'the audit trail is written once and never changed';
end;
$$;
create trigger audit_is_append_only before update or delete on audit for each row execute function refuse_audit_change();
create trigger audit_is_not_emptied before truncate on audit for each statement execute function refuse_audit_change();

-- One row for each stop switch that is on; scope is a swarm's name, or * for all.
create table stop_switches (
  scope text primary key,
  by text not null,
  reason text not null,
  at timestamptz not null default now()
);

-- What a person must see.
create table pages (
  operation text primary key,
  swarm text not null,
  subject text not null,
  text text not null,
  at timestamptz not null default now()
);
