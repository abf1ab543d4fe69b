# An endpoint's agent: the static key and the preshared keys of its own swarm, to read.
path "${kv}/data/swarms/${swarm}/*" {
  capabilities = ["read"]
}
