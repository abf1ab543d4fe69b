# The reflex: who it is, and no more. It holds no key and stays up without Vault.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
