# The trainer: who it is, and no more. Models and telemetry lie in PostgreSQL.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
