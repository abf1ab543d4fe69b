# The codec server of Temporal's Web UI: opens payloads for people, and seals those that they send from there.
path "${transit}/datakey/plaintext/payloads" {
  capabilities = ["update"]
}
path "${transit}/decrypt/payloads" {
  capabilities = ["update"]
}
