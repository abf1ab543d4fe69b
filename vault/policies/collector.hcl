# The collector: seals session state on its way to PostgreSQL and opens it for the endpoints; keeps the revocation list from expiring.
path "${transit}/encrypt/sessions" {
  capabilities = ["update"]
}
path "${transit}/datakey/plaintext/sessions" {
  capabilities = ["update"]
}
path "${transit}/decrypt/sessions" {
  capabilities = ["update"]
}
path "${pki}/crl/rotate" {
  capabilities = ["read"]
}
