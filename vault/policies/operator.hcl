# A person's command line: payloads of the workflows that it starts and reads.
path "${transit}/datakey/plaintext/payloads" {
  capabilities = ["update"]
}
path "${transit}/decrypt/payloads" {
  capabilities = ["update"]
}
