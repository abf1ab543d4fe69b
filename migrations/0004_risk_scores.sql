-- What was predicted of each endpoint whenever it changed, so that a decision can be explained afterwards.
create table risk_scores (
  at timestamptz not null,
  swarm text not null,
  endpoint text not null,
  sessions integer not null,
  score jsonb not null,
  primary key (swarm, endpoint, at)
);
create index risk_scores_by_time on risk_scores using brin (at);
