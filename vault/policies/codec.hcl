# The codec server of Temporal's Web UI: opens payloads, seals none.
path "${transit}/decrypt/payloads" {
  capabilities = ["update"]
}
