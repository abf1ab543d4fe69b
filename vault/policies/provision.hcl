# Who brings a swarm up: makes its keys, and hands the processes their secret-ids, wrapped only.
path "${kv}/data/swarms/*" {
  capabilities = ["create", "read", "update"]
}
path "${kv}/metadata/swarms/*" {
  capabilities = ["read", "list"]
}
path "auth/${approle}/role/+/secret-id" {
  capabilities     = ["update"]
  min_wrapping_ttl = "1s"
  max_wrapping_ttl = "600s"
}
