-- What failure models are trained on: a table of rows, never changed, named by its content. `operation` finds it again after a kill.
create table training_snapshots (
  id text not null,
  scope text not null,
  operation text not null unique,
  body bytea not null,
  facts jsonb not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (scope, id)
);

-- How each retraining ended, and why: shown by `foreshift models list`.
create table retrainings (
  seq bigint generated always as identity primary key,
  operation text not null unique,
  scope text not null,
  outcome text not null check (outcome in ('promoted', 'kept')),
  reason text not null,
  challenger text,
  champion text,
  details jsonb not null,
  at timestamptz not null default clock_timestamp()
);
create index retrainings_by_scope on retrainings (scope, seq);
