-- What was forecast of each swarm's load, one row for each step and horizon, and what came; rows past their retention are deleted by
-- whoever writes.
create table load_forecasts (
  swarm text not null,
  made_at timestamptz not null,
  target_at timestamptz not null,
  median double precision not null,
  lower double precision not null,
  upper double precision not null,
  demand double precision not null,
  methods jsonb not null,
  actual double precision,
  primary key (swarm, target_at, made_at)
);
create index load_forecasts_by_time on load_forecasts using brin (target_at);
