# What launches machines: gives each endpoint's agent an AppRole of its own, with the agents' policy and no other, and hands its
# secret-id on wrapped only.
path "auth/${agents}/role/+" {
  capabilities = ["create", "update", "delete"]
  allowed_parameters = {
    "role_id"               = []
    "token_policies"        = ["${agentPolicies}"]
    "token_no_default_policy" = [true]
    "token_period"          = []
    "secret_id_num_uses"    = []
    "secret_id_ttl"         = []
  }
}
path "auth/${agents}/role/+/secret-id" {
  capabilities     = ["update"]
  min_wrapping_ttl = "1s"
  max_wrapping_ttl = "600s"
}
