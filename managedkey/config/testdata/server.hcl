kms_library "pkcs11" {
  name    = "hsm1"
  library = "/usr/lib/softhsm/libsofthsm2.so"
}

connection "awskms" "prod" {
  region        = "eu-central-1"
  access_key    = "env:KMS_ACCESS_KEY" # or leave both out: the SDK finds some
  secret_key    = "file:/run/secrets/kms"
  rate          = 500
  max_in_flight = 64
  namespaces    = ["team-a"]
}

managed_key "pkcs11" "team-a/issuing-ca" { # namespace/name
  library            = "hsm1"
  token_label        = "team-a"
  pin                = "env:HSM_PIN"
  key_label          = "issuing-ca"
  mechanism          = "0x1041"
  curve              = "P256"
  allow_generate_key = true
}

managed_key "awskms" "team-a/tokens" {
  kms_key  = "alias/tokens"
  key_type = "ECDSA"
  curve    = "P256"
}

mount "pki" "team-a/pki" {
  allowed_managed_keys = ["issuing-ca"]
}

store "bolt" { path = "/var/lib/managedkeys/store" }

seal "passphrase" { passphrase = "file:/run/secrets/seal" }

audit "file" {
  path        = "/var/log/managedkeys/audit.log"
  hmac_key    = "file:/run/secrets/audit" # at least 32 bytes, as of: head -c 32 /dev/urandom | base64
  fail_closed = true
}

telemetry { metrics = true }

listener "tcp" {
  address            = "0.0.0.0:8200"
  tls_cert_file      = "/etc/managedkeys/server.pem"
  tls_key_file       = "/etc/managedkeys/server.key"
  tls_client_ca_file = "/etc/managedkeys/clients.pem"
}

policy "operator" {
  path "sys/managed-keys/*" { capabilities = ["create", "read", "update", "delete", "list"] }
  path "sys/mounts/*" { capabilities = ["read", "list"] }
}

auth "token" "ci" {
  token    = "file:/run/secrets/ci-token"
  policies = ["operator"]
}

auth "cert" "web" {
  allowed_dns_sans = ["*.web.example.com"]
  policies         = ["operator"]
}
