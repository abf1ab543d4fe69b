# The hook by which clients are reached: hands each its own preshared key on. In the lab it is the clients themselves.
path "${kv}/data/swarms/+/peers/*" {
  capabilities = ["read"]
}
