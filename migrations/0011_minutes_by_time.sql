-- Trainings, and a worker that begins to score, read all endpoints of a stretch of time; rows come in the order of time.
create index telemetry_minutes_by_time on telemetry_minutes using brin (at);
