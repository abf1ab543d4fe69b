-- Endpoints that are out for good. Names are not used twice, so a row says so of one machine for ever.
create table revoked_endpoints (
  swarm text not null,
  endpoint text not null,
  reason text not null,
  at timestamptz not null default clock_timestamp(),
  primary key (swarm, endpoint)
);
