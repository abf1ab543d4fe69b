# The trainer: its own payloads in Temporal. Models and telemetry lie in PostgreSQL.
path "${transit}/datakey/plaintext/payloads" {
  capabilities = ["update"]
}
path "${transit}/decrypt/payloads" {
  capabilities = ["update"]
}
