-- Telemetry by day: a day's partition is made ahead, and dropped as a whole once it is old. The table before this one is not carried
-- over: nothing read it, and its times were the endpoints' own, which may lie in any year.
drop table heartbeats;

-- Each heartbeat as it was believed: `at` is by the collector's clock, `sample` holds the values of its series by name.
create table heartbeats (
  at timestamptz not null,
  received_at timestamptz not null,
  swarm text not null,
  endpoint text not null,
  sequence bigint not null,
  started_at timestamptz not null,
  tunnel_up boolean not null,
  sample jsonb not null
) partition by range (at);
create index heartbeats_by_endpoint on heartbeats (swarm, endpoint, at);

create table telemetry_minutes (
  at timestamptz not null,
  swarm text not null,
  endpoint text not null,
  metric text not null,
  count integer not null,
  mean double precision not null,
  min double precision not null,
  max double precision not null,
  p95 double precision not null,
  primary key (swarm, endpoint, metric, at)
) partition by range (at);

create table telemetry_five_minutes (
  at timestamptz not null,
  swarm text not null,
  endpoint text not null,
  metric text not null,
  count integer not null,
  mean double precision not null,
  min double precision not null,
  max double precision not null,
  p95 double precision not null,
  primary key (swarm, endpoint, metric, at)
) partition by range (at);

-- Days are those of UTC.
create function make_telemetry_partitions(first_day date, days integer) returns void language plpgsql as $$
declare
  parent text;
  day date;
begin
  foreach parent in array array['heartbeats', 'telemetry_minutes', 'telemetry_five_minutes'] loop
    for day in select generate_series(first_day, first_day + days - 1, interval '1 day')::date loop
      if to_regclass(parent || '_' || to_char(day, 'YYYYMMDD')) is null then
        execute format('create table if not exists %I partition of %I for values from (%L) to (%L)',
          parent || '_' || to_char(day, 'YYYYMMDD'), parent,
          day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
      end if;
    end loop;
  end loop;
end;
$$;

-- Drops the days of one table that ended at or before `first_day_kept` began; answers how many.
create function drop_telemetry_partitions(parent text, first_day_kept date) returns integer language plpgsql as $$
declare
  partition text;
  dropped integer := 0;
begin
  for partition in
    select child.relname from pg_inherits join pg_class child on child.oid = inhrelid
    where inhparent = parent::regclass and child.relname ~ '_[0-9]{8}$'
      and to_date(right(child.relname, 8), 'YYYYMMDD') < first_day_kept
  loop
    execute format('drop table %I', partition);
    dropped := dropped + 1;
  end loop;
  return dropped;
end;
$$;

select make_telemetry_partitions((now() at time zone 'UTC')::date - 1, 4);

-- What the outside-events feed says. An event that is no longer in the feed is withdrawn.
create table outside_events (
  id text primary key,
  source text not null,
  kind text not null,
  region text not null,
  zone text,
  starts_at timestamptz not null,
  ends_at timestamptz not null,
  severity double precision not null check (severity between 0 and 1),
  confidence double precision not null check (confidence between 0 and 1),
  text text not null,
  feed text not null,
  seen_at timestamptz not null default now(),
  withdrawn_at timestamptz,
  check (ends_at > starts_at)
);
create index outside_events_by_end on outside_events (ends_at);
