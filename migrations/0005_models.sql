-- Trained models, never changed: the id is made of the content, so the same model is there once for each scope.
create table models (
  id text not null,
  scope text not null,
  body bytea not null,
  origin jsonb not null,
  metrics jsonb not null,
  time_window double precision not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (scope, id)
);

-- Which model is in use is what this history says: a promotion puts one on top, a rollback takes the topmost away.
create table model_changes (
  seq bigint generated always as identity primary key,
  operation text not null unique,
  scope text not null,
  kind text not null check (kind in ('promote', 'rollback')),
  model text not null,
  by text not null,
  reason text not null,
  at timestamptz not null default clock_timestamp(),
  foreign key (scope, model) references models (scope, id)
);
create index model_changes_by_scope on model_changes (scope, seq);
