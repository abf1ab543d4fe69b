# An endpoint's agent: the static key and the preshared keys of its own swarm, to read.
path "${kv}/data/swarms/${swarm}/*" {
  capabilities = ["read"]
}
# Keys of IPsec SAs on their way to the endpoint that shadows them.
path "${transit}/encrypt/ipsec-${swarm}" {
  capabilities = ["update"]
}
path "${transit}/decrypt/ipsec-${swarm}" {
  capabilities = ["update"]
}
