# Every process: its own token, its own next secret-id, a certificate for itself (PKI role "process"), nothing of others.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
path "auth/${approle}/role/{{identity.entity.aliases.${approleAccessor}.metadata.role_name}}/secret-id" {
  capabilities = ["update"]
}
path "auth/${approle}/role/{{identity.entity.aliases.${approleAccessor}.metadata.role_name}}/secret-id/destroy" {
  capabilities = ["update"]
}
path "auth/${agents}/role/{{identity.entity.aliases.${agentsAccessor}.metadata.role_name}}/secret-id" {
  capabilities = ["update"]
}
path "auth/${agents}/role/{{identity.entity.aliases.${agentsAccessor}.metadata.role_name}}/secret-id/destroy" {
  capabilities = ["update"]
}
path "${pki}/sign/process" {
  capabilities = ["update"]
}
