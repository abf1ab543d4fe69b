# The control worker: writes new versions of keys that it cannot read back, ends old ones, turns transit keys, revokes certificates,
# ends the logins and tokens of endpoints' agents, and reads and writes its own payloads in Temporal.
path "${kv}/data/swarms/*" {
  capabilities = ["create", "update"]
}
path "${kv}/metadata/swarms/*" {
  capabilities = ["read", "list"]
}
path "${kv}/destroy/swarms/*" {
  capabilities = ["update"]
}
path "${transit}/datakey/plaintext/payloads" {
  capabilities = ["update"]
}
path "${transit}/decrypt/payloads" {
  capabilities = ["update"]
}
path "${transit}/decrypt/sessions" {
  capabilities = ["update"]
}
path "${transit}/rewrap/+" {
  capabilities = ["update"]
}
path "${transit}/keys/+" {
  capabilities = ["read"]
}
path "${transit}/keys/+/rotate" {
  capabilities = ["update"]
}
path "${transit}/keys/+/config" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
    "min_encryption_version" = []
  }
}
path "${pki}/revoke" {
  capabilities = ["update"]
}
path "${pki}/certs" {
  capabilities = ["list"]
}
path "${pki}/crl/rotate" {
  capabilities = ["read"]
}
path "auth/${agents}/role/+" {
  capabilities = ["delete"]
}
path "identity/entity-alias/id" {
  capabilities = ["list"]
}
path "identity/entity/id/+" {
  capabilities = ["delete"]
}
